"""The pack plan: which examples form row r of a run is a pure function of (caches, rates, seed).

The run is cut into windows of a fixed number of examples. How many a window takes of each task follows from the
rates in closed form, which examples from the task's epoch-wise permutation, and best-fit-decreasing packing turns
them into rows. So any row of any step can be computed by any process, and the position of a run is one number.
"""

import bisect
import collections
import dataclasses
import functools
import logging
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64

from bagpiper_jax.data.packing import pack
from bagpiper_jax.data.shuffle import permute, stable_hash

_log = logging.getLogger(__name__)
_WINDOWS_IN_MEMORY = 4
_SMALLEST_WINDOW = 64


class PlanError(ValueError):
    """A plan that cannot be made; says which task and what to change."""


@dataclasses.dataclass(frozen=True)
class TaskLengths:
    """What the plan knows of a task.

    Attributes:
        name, rate: as in the lock.
        length, chunks, direction: int32 [records], columns of the cache's index.
    """

    name: str
    rate: float
    length: Int32[np.ndarray, "n"]
    chunks: Int32[np.ndarray, "n"]
    direction: Int32[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class Planned:
    """Examples of a row, in the order they stand in it; all int64 [k].

    Attributes:
        task: index into the plan's tasks.
        epoch: which pass over the task.
        index: record number in the task's cache.
        length, chunks: slots and audio chunks it takes.
    """

    task: Int64[np.ndarray, "k"]
    epoch: Int64[np.ndarray, "k"]
    index: Int64[np.ndarray, "k"]
    length: Int64[np.ndarray, "k"]
    chunks: Int64[np.ndarray, "k"]

    def __len__(self) -> int:
        return len(self.task)

    def select(self, places: Sequence[int]) -> "Planned":
        return Planned(*(getattr(self, f.name)[places] for f in dataclasses.fields(self)))


EMPTY_ROW = Planned(*(np.zeros(0, np.int64) for _ in range(5)))


@dataclasses.dataclass(frozen=True)
class Excluded:
    """Examples of a task that no row can hold."""

    task: str
    examples: int
    tokens: int
    share: float


class Plan:
    """Rows of an endless run over a mixture. Thread-safe.

    Args:
        tasks: the mixture.
        slots, max_chunks: budgets of a row, T and C.
        seed: of shuffling.
        rate_unit: "examples" or "tokens".
        window: examples planned together, at most; larger packs tighter and starts slower. Small corpora get
            smaller windows, since a window of many epochs would put copies of an example into one row.

    Raises:
        PlanError: no task, or a task of which no example fits a row.
    """

    def __init__(
        self,
        tasks: Sequence[TaskLengths],
        slots: int,
        max_chunks: int,
        seed: int,
        rate_unit: str = "examples",
        window: int = 4096,
    ):
        self.tasks, self.slots, self.max_chunks, self.seed = tuple(tasks), slots, max_chunks, seed
        self.usable, self.excluded = _usable(self.tasks, slots, max_chunks)
        self.shares = example_shares(self.tasks, self.usable, rate_unit)
        self.window_size = _window_size(window, self.shares, self.usable)
        self._starts = [(0, 0)]  # (first row, window), for the windows counted so far
        self._windows: collections.OrderedDict[int, list[Planned]] = collections.OrderedDict()
        self._lock = threading.RLock()

    def row(self, row: int) -> Planned:
        """The examples of one row of the run."""
        first, window = self.locate(row)
        return self.window(window)[row - first]

    def locate(self, row: int) -> tuple[int, int]:
        """(first row, number) of the window that holds a row."""
        with self._lock:
            at = bisect.bisect_right(self._starts, (row, float("inf"))) - 1
            first, window = self._starts[max(0, at)]
            if row < first:
                raise ValueError(f"row {row} lies before the window this plan was resumed at")
            while row - first >= (count := len(self.window(window))):
                first, window = first + count, window + 1
                if first > self._starts[-1][0]:
                    self._starts.append((first, window))
            return first, window

    def resume_at(self, first_row: int, window: int) -> None:
        """Spares planning all windows before this one; the pair must come from `locate` of an equal plan."""
        with self._lock:
            if (first_row, window) not in self._starts:
                bisect.insort(self._starts, (first_row, window))

    def window(self, window: int) -> list[Planned]:
        """All rows of a window, in the order they are trained on."""
        with self._lock:
            if window not in self._windows:
                self._windows[window] = self._plan_window(window)
                while len(self._windows) > _WINDOWS_IN_MEMORY:
                    self._windows.popitem(last=False)
            self._windows.move_to_end(window)
            return self._windows[window]

    def consumed(self, window: int) -> list[int]:
        """Examples taken of each task before a window."""
        return [int(share * self.window_size * window + 0.5) for share in self.shares]

    def _plan_window(self, window: int) -> list[Planned]:
        begins, ends = self.consumed(window), self.consumed(window + 1)
        pieces = [self._stream(t, b, e) for t, (b, e) in enumerate(zip(begins, ends, strict=True))]
        examples = _concatenate(pieces)
        rows = pack(examples.length, examples.chunks, self.slots, self.max_chunks)
        order = np.random.Generator(np.random.Philox(key=[self.seed, window])).permutation(len(rows))
        return [examples.select(rows[r]) for r in order]

    def _stream(self, task: int, begin: int, end: int) -> Planned:
        """Examples `begin` to `end` of a task's endless stream, each epoch a new permutation."""
        usable = self.usable[task]
        epoch, within = np.divmod(np.arange(begin, end, dtype=np.int64), len(usable))
        index = np.empty_like(within)
        for e in np.unique(epoch):
            key = stable_hash(self.seed, self.tasks[task].name, int(e))
            here = epoch == e
            index[here] = usable[permute(within[here], len(usable), key)]
        return _planned(self.tasks, task, epoch, index)


class FinitePlan:
    """Rows that hold each usable example once, task after task in order; for validation."""

    def __init__(self, tasks: Sequence[TaskLengths], slots: int, max_chunks: int, window: int = 4096):
        self.tasks, self.slots, self.max_chunks = tuple(tasks), slots, max_chunks
        self.usable, self.excluded = _usable(self.tasks, slots, max_chunks)
        self._window_size = window

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Planned:
        """The examples of a row; beyond the last one, an empty row."""
        return self._rows[row] if row < len(self._rows) else EMPTY_ROW

    @functools.cached_property
    def _rows(self) -> list[Planned]:
        pieces = [_planned(self.tasks, t, np.zeros_like(u), u) for t, u in enumerate(self.usable)]
        everything, rows = _concatenate(pieces), []
        for begin in range(0, len(everything), self._window_size):
            places = np.arange(begin, min(begin + self._window_size, len(everything)))
            examples = everything.select(places)
            packed = pack(examples.length, examples.chunks, self.slots, self.max_chunks)
            rows += [examples.select(sorted(p)) for p in sorted(packed, key=min)]
        return rows


def example_shares(
    tasks: Sequence[TaskLengths], usable: Sequence[np.ndarray], rate_unit: str
) -> tuple[float, ...]:
    """What share of all examples each task gives, so that examples or tokens come at its rate."""
    rates = [task.rate for task in tasks]
    if rate_unit == "tokens":
        rates = [r / float(t.length[u].mean()) for r, t, u in zip(rates, tasks, usable, strict=True)]
    return tuple(rate / sum(rates) for rate in rates)


def _window_size(most: int, shares: Sequence[float], usable: Sequence[np.ndarray]) -> int:
    """As many examples as hold about one epoch of the task that repeats soonest."""
    epoch = min(len(u) / share for share, u in zip(shares, usable, strict=True))
    return min(most, max(_SMALLEST_WINDOW, int(epoch)))


def _usable(tasks, slots: int, max_chunks: int) -> tuple[tuple[np.ndarray, ...], tuple[Excluded, ...]]:
    if not tasks:
        raise PlanError("the mixture is empty: there is no task to plan")
    usable, excluded = [], []
    for task in tasks:
        fits = (task.length <= slots) & (task.chunks <= max_chunks)
        usable.append(np.flatnonzero(fits))
        lost = int((~fits).sum())
        if lost == len(fits):
            raise PlanError(
                f"no example of {task.name} fits a row of {slots} slots and {max_chunks} audio chunks; its "
                f"shortest has {task.length.min(initial=0)} slots, {task.chunks.min(initial=0)} chunks"
            )
        if lost:
            tokens = int(task.length[~fits].sum())
            excluded.append(Excluded(task.name, lost, tokens, lost / len(fits)))
            _log.warning(
                "%s: %d examples (%.1f %%, %d tokens) exceed a row of %d slots and %d chunks; left out",
                task.name, lost, 100 * lost / len(fits), tokens, slots, max_chunks,
            )  # fmt: skip
    return tuple(usable), tuple(excluded)


def _planned(tasks, task: int, epoch: np.ndarray, index: np.ndarray) -> Planned:
    return Planned(
        task=np.full(len(index), task, np.int64),
        epoch=epoch.astype(np.int64),
        index=index.astype(np.int64),
        length=tasks[task].length[index].astype(np.int64),
        chunks=tasks[task].chunks[index].astype(np.int64),
    )


def _concatenate(pieces: Sequence[Planned]) -> Planned:
    names = [f.name for f in dataclasses.fields(Planned)]
    return Planned(*(np.concatenate([getattr(p, name) for p in pieces]) for name in names))
