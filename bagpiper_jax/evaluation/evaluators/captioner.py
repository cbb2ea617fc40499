"""A captioner: what a run of ours, named by its directory, says of clips."""

import dataclasses
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio, digests, files
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import weights
from bagpiper_jax.generation.replies import Generator, load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.training.checkpoints import find_checkpoint


class Captioner:
    """A run whose model hears clips, of one call together.

    Attributes:
        name: "captioner_" and the directory's.
        version: SHA-256 of the digests of all the checkpoint's files; "" of one that was written without.
    """

    def __init__(self, run: Path, generator: Generator, loop: LoopConfig, rows: int | None = None):
        """
        Args:
            run: its directory.
            generator: what was loaded of it.
            loop: sampling; its modalities are set here.
            rows: clips that are heard at once; None hears up to 64.
        """
        self.name = "captioner_" + re.sub(r"\W+", "_", run.absolute().name.lower())
        written = Path(find_checkpoint(run)) / digests.FILE
        self.version = files.sha256(written) if written.exists() else ""
        self._loop = dataclasses.replace(loop, modalities=("text",), max_segments=1)
        self._generator, self._rows, self._one_at_a_time = generator, rows, threading.Lock()

    def caption(self, path: Path) -> str:
        """The caption of a file. Raises audio.AudioError."""
        return self.captions([audio.read(path)])[0]

    def captions(self, sounds: Sequence[Float32[np.ndarray, " samples"]]) -> list[str]:
        """The captions of waveforms at 16 kHz."""
        dialogues = [[Message("user", "audio", sound)] for sound in sounds]
        with self._one_at_a_time:
            return [reply.text for reply in self._generator.reply(dialogues, self._loop, self._rows)]


def open_captioner(path: str = "") -> Captioner:
    """See `open_evaluator`. A path is the directory of a run, which is sampled as the release is, with its seed.

    Raises:
        MissingEvaluatorError: none is named.
        ModelConfigError, TokenizerError, CheckpointError: it is no such directory; the message says what is wrong.
    """
    if not path:
        raise MissingEvaluatorError(
            "captioner: name the path of a run that captions, the model under test or another; or register your own"
        )
    run = weights.at(path, "captioner")
    return Captioner(run, load_generator(run), LoopConfig())
