"""OpenL3: embeddings of a second every half second, as stable-audio-metrics takes them for FD_openl3.

The package openl3, which computes with TensorFlow, runs a file of its own weights: `openl3_audio_mel256_env.h5` for
sounds, `…_music.h5` for music. Clips are raised to a peak of −1 dB, resampled to 44.1 kHz, and heard as two equal
channels, whose embeddings of 512 stand side by side, as published distances have it.
"""

import threading
from pathlib import Path

import numpy as np

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.evaluators.listening import Heard

RATE = 44_100
_HOP = 0.5
_SPECTROGRAM, _NUMBERS = "mel256", 512
_CONTENTS = ("env", "music")


class OpenL3:
    """A `Listener` that names no classes.

    Attributes:
        name: "openl3_env" or "openl3_music": distances of the two cannot be compared.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, file: Path, content: str):
        library = weights.library("openl3", "openl3", "openl3")
        self.name, self.version = f"openl3_{content}", weights.version(file)
        self._embed, self._one_at_a_time = library.get_audio_embedding, threading.Lock()
        self._model = library.models.load_audio_embedding_model_from_path(str(file), _SPECTROGRAM, _NUMBERS)

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        samples = sound.at_peak(sound.read(path, RATE))
        with self._one_at_a_time:
            found, _ = self._embed(samples, RATE, model=self._model, hop_size=_HOP, verbose=False)
        return Heard(np.concatenate([found, found], axis=1))


def open_openl3(path: str = "") -> OpenL3:
    """See `open_evaluator`. A path is a file of the package's weights, by the package's name."""
    if not path:
        raise MissingEvaluatorError(
            "openl3 needs weights: name the path of its openl3_audio_mel256_env.h5 or …_music.h5, and pip install "
            "openl3, which runs them"
        )
    file = weights.at(path, "openl3")
    content = file.stem.rpartition("_")[2]
    if content not in _CONTENTS or _SPECTROGRAM not in file.stem:
        raise MissingEvaluatorError(
            f"openl3: {file} must be called as the package calls it, openl3_audio_mel256_env.h5 or …_music.h5"
        )
    return OpenL3(file, content)
