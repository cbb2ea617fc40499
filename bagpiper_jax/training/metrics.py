"""From loss sums to named numbers, and from there to files: TensorBoard, one JSON line per interval, a summary."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.batch import Batch
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.runs.trackers.group import Trackers
from bagpiper_jax.runs.trackers.tensorboard import Board
from bagpiper_jax.training.losses import LossSums
from bagpiper_jax.vocabulary import PAD, Vocabulary

_log = logging.getLogger(__name__)

FILE = "metrics.jsonl"


def loss_scalars(sums: LossSums) -> dict[str, float]:
    """Named losses of sums that are on the host; streams and directions without targets are left out.

    `loss` and `loss_<direction>` weigh codec targets by 1/8 and divide by frames (docs/reference.md, Loss);
    `loss_stream<s>` is the plain cross-entropy per target; `accuracy` is that of stream 0.
    """
    frames = max(float(sums.frames), 1.0)
    scalars = {"loss": float(sums.total) / frames, "accuracy": float(sums.correct) / frames}
    for stream, (total, count) in enumerate(zip(sums.stream, sums.stream_targets, strict=True)):
        if count:
            scalars[f"loss_stream{stream}"] = float(total / count)
    for name, total, count in zip(DIRECTIONS, sums.direction, sums.direction_frames, strict=True):
        if count:
            scalars[f"loss_{name}"] = float(total / count)
    return scalars


class Unigram:
    """Add-one token frequencies per stream: the loss that a model without context reaches.

    Args:
        batches: training batches to count, as numpy.
        vocabulary: the vocabulary of the model.
        add: sums an array over processes that hold different rows, so that all know the same model.
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        vocabulary: Vocabulary,
        add: Callable[[np.ndarray], np.ndarray] = lambda own: own,
    ):
        self._start, self._add = vocabulary.codec_start, add
        counts = np.zeros((vocabulary.num_streams, vocabulary.size), np.int64)
        for batch in batches:
            for stream in range(vocabulary.num_streams):
                ids = batch.tokens[..., stream][self._targets(batch, stream)]
                counts[stream] += np.bincount(ids, minlength=vocabulary.size)
        smoothed = add(counts) + 1.0
        smoothed[1:, : self._start] = 0
        with np.errstate(divide="ignore"):
            self._cost = -np.log(smoothed / smoothed.sum(axis=1, keepdims=True))

    def loss(self, batches: Iterable[Batch]) -> float:
        """Loss of these batches, weighted and divided as the model's."""
        total, frames = 0.0, 0
        for batch in batches:
            for stream in range(batch.tokens.shape[-1]):
                chosen = self._targets(batch, stream)
                cost = self._cost[stream][batch.tokens[..., stream][chosen]]
                total += float(np.sum(cost * batch.loss_weights[..., stream][chosen]))
            frames += int((batch.loss_weights[:, 1:, 0] != 0).sum())
        total, frames = self._add(np.array([total, frames]))
        return float(total / max(frames, 1))

    def _targets(self, batch: Batch, stream: int) -> np.ndarray:
        tokens = batch.tokens[..., stream]
        chosen = (batch.loss_weights[..., stream] != 0) & (tokens >= self._start if stream else tokens != PAD)
        chosen[:, 0] = False  # nothing predicts a row's first slot
        return chosen


class MetricWriter:
    """Appends scalars to `metrics.jsonl` and TensorBoard, tells the trackers. Does nothing but in the first process.

    Args:
        directory: the directory of the run.
        step: the step that the run continues from; what an earlier attempt wrote after it is dropped.
        active: whether this process writes.
        trackers: the services that are told as well; who opened them closes them.
    """

    def __init__(self, directory: Path, step: int, active: bool = True, trackers: Trackers | None = None):
        self._file = self._board = None
        self._trackers = trackers or Trackers()
        self.active, self._unwritten = active, b""
        if not active:
            return
        path = directory / FILE
        keep = [line for line in _complete_lines(path) if json.loads(line)["step"] <= step]
        files.replace(path, "".join(keep))
        self._file = open(path, "ab", buffering=0)
        self._board = Board(directory / "tensorboard", step)

    def write(self, step: int, scalars: dict[str, float], prefix: str = "train") -> None:
        """One line, and one point per scalar named `<prefix>/<name>`."""
        if self._file is None:
            return
        self._unwritten += json.dumps({"step": step, "kind": prefix, **scalars}).encode() + b"\n"
        self._flush()
        points = {f"{prefix}/{name}": value for name, value in scalars.items()}
        self._board.scalars(step, points)
        self._trackers.scalars(step, points)

    def text(self, name: str, text: str, step: int) -> None:
        """A text for TensorBoard and the trackers, shown as it is."""
        if self._board:
            self._board.text(step, name, text)
            self._trackers.text(step, name, text)

    def close(self) -> None:
        if self._file is not None:
            self._flush()
            self._file.close()
            self._board.close()

    def _flush(self) -> None:
        """Lines that a full disk does not take are kept for the next time."""
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            _log.warning("%s: %s. Its lines are kept and written later", self._file.name, error)


def write_summary(directory: Path, summary: dict) -> None:
    """`metrics.json`: the run's last numbers, written atomically."""
    files.replace(directory / "metrics.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")


def _complete_lines(path: Path) -> list[str]:
    """Lines of an earlier attempt; the last one may be torn."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("}\n")]
