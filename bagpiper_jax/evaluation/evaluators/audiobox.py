"""Audiobox Aesthetics: how much a clip is enjoyed, how useful, how complex and how well made it is, 1 to 10.

The package audiobox_aesthetics runs its checkpoint (`checkpoint.pt` of facebook/audiobox-aesthetics, CC BY 4.0), in
windows of ten seconds, as `metrics/aesthetics.py` says.
"""

import threading
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.metrics.aesthetics import AXES, RATE


class Audiobox:
    """Opinions on any sound."""

    name = "audiobox"

    def __init__(self, file: Path):
        self._torch = weights.library("torch", "torch", self.name)
        library = weights.library("audiobox_aesthetics.infer", "audiobox_aesthetics", self.name)
        self.version, self._one_at_a_time = weights.version(file), threading.Lock()
        self._predictor = library.AesPredictor(checkpoint_pth=str(file), data_col="path")

    def opinions(self, path: Path) -> dict[str, float]:
        """The opinions "ce", "cu", "pc" and "pq" on a file. Raises audio.AudioError."""
        samples = self._torch.from_numpy(sound.read(path, RATE))[None]
        with self._one_at_a_time:
            (found,) = self._predictor.forward([{"path": samples, "sample_rate": RATE}])
        return {axis.lower(): float(found[axis]) for axis in AXES}


def open_audiobox(path: str = "") -> Audiobox:
    """See `open_evaluator`. A path is the checkpoint."""
    if not path:
        raise MissingEvaluatorError(
            "audiobox needs weights: name the path of checkpoint.pt of facebook/audiobox-aesthetics, and pip install "
            "audiobox_aesthetics, which runs it"
        )
    return Audiobox(weights.at(path, "audiobox"))
