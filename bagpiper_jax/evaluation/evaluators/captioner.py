"""A captioner: what a run of ours, named by its directory, says of a clip."""

import re
import threading
from pathlib import Path

from bagpiper_jax import audio, digests, files
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import weights
from bagpiper_jax.generation.replies import load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.training.checkpoints import find_checkpoint


class Captioner:
    """A run whose model hears one clip at a time, with the release's sampling and its seed.

    Attributes:
        name: "captioner_" and the directory's.
        version: SHA-256 of the digests of all the checkpoint's files.
    """

    def __init__(self, run: Path):
        self.name = "captioner_" + re.sub(r"\W+", "_", run.absolute().name.lower())
        self.version = files.sha256(Path(find_checkpoint(run)) / digests.FILE)
        self._generator, self._one_at_a_time = load_generator(run), threading.Lock()

    def caption(self, path: Path) -> str:
        """The caption of a file. Raises audio.AudioError."""
        heard = audio.read(path)
        loop = LoopConfig(modalities=("text",), max_segments=1)
        with self._one_at_a_time:
            return self._generator.reply([[Message("user", "audio", heard)]], loop, 1)[0].text


def open_captioner(path: str = "") -> Captioner:
    """See `open_evaluator`. A path is the directory of a run.

    Raises:
        MissingEvaluatorError: none is named.
        ModelConfigError, TokenizerError, CheckpointError: it is no such directory; the message says what is wrong.
    """
    if not path:
        raise MissingEvaluatorError(
            "captioner: name the path of a run that captions, the model under test or another; or register your own"
        )
    return Captioner(weights.at(path, "captioner"))
