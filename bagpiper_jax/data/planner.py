"""The pack plan: which examples form row r of a run is a pure function of (caches, rates, seed).

The run is cut into windows of a fixed number of examples. How many a window takes of each task follows from the
rates in closed form, which examples from the task's epoch-wise permutation, and packing turns them into rows. So
any row of any step can be computed by any process, and the position of a run is one number. Only lengths are
looked at, and of those only the examples of a window: planning costs the same for a thousand records and a billion.
"""

import bisect
import collections
import dataclasses
import functools
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from bagpiper_jax.data.lengths import (
    Excluded,
    PackPlanError,
    TaskLengths,
    Usable,
    example_shares,
    usable_records,
)
from bagpiper_jax.data.packing import pack
from bagpiper_jax.data.shuffle import mix, permute, round_keys

__all__ = ["EMPTY_ROW", "Excluded", "FinitePlan", "Plan", "PackPlanError", "Planned", "TaskLengths", "Usable"]

PLAN_VERSION = 4
"""Grows when the same caches, rates and seed would give other rows: a run must not continue across that."""

WINDOW = 16_384
"""Examples planned together, where nobody says otherwise."""

_WINDOWS_IN_MEMORY = 4
_SMALLEST_WINDOW = 64
_ROWS_TOGETHER = 400
"""Rows that a window should fill. Its last row is half empty on average: an eighth of a percent of 400 rows."""

_MOST_GROWTH, _MOST_EPOCHS = 4, 3


@dataclasses.dataclass(frozen=True)
class Planned:
    """Examples, in the order they stand in their row; all int64 [k].

    Attributes:
        task: index into the plan's tasks.
        epoch: which pass over the task.
        index: record number in the task's cache.
        variant: which of the record's declared variants.
        length, chunks: slots and audio chunks it takes.
    """

    task: Int64[np.ndarray, "k"]
    epoch: Int64[np.ndarray, "k"]
    index: Int64[np.ndarray, "k"]
    variant: Int64[np.ndarray, "k"]
    length: Int64[np.ndarray, "k"]
    chunks: Int64[np.ndarray, "k"]

    def __len__(self) -> int:
        return len(self.task)

    def select(self, places) -> "Planned":
        """Those at `places`: a slice, or numbers."""
        columns = (self.task, self.epoch, self.index, self.variant, self.length, self.chunks)
        return Planned(*(column[places] for column in columns))


EMPTY_ROW = Planned(*(np.zeros(0, np.int64) for _ in dataclasses.fields(Planned)))


class Plan:
    """Rows of an endless run over a mixture. Thread-safe.

    Args:
        tasks: the mixture.
        slots, max_chunks: budgets of a row, T and C.
        seed: of shuffling.
        rate_unit: "examples" or "tokens".
        window: examples planned together; larger packs tighter and costs less for each, but a run that changes its
            data keeps the old ones longer. Short examples get up to 4 times as many, until they fill 400 rows; small
            corpora no more than one epoch has, or three if that fills too few rows.
        first: (row, window) at which this plan takes over from another one.
        cursors: task name → examples of it that were taken before.

    Raises:
        PackPlanError: no task, or a task of which no example fits a row.
    """

    def __init__(
        self,
        tasks: Sequence[TaskLengths],
        slots: int,
        max_chunks: int,
        seed: int,
        rate_unit: str = "examples",
        window: int = WINDOW,
        first: tuple[int, int] = (0, 0),
        cursors: Mapping[str, int] | None = None,
    ):
        self.tasks, self.slots, self.max_chunks, self.seed = tuple(tasks), slots, max_chunks, seed
        self.usable, self.excluded = usable_records(self.tasks, slots, max_chunks)
        self.shares = example_shares(self.tasks, self.usable, rate_unit)
        self.window_size = _window_size(window, slots, self.shares, self.usable)
        self.first = first
        self._cursors = np.asarray([(cursors or {}).get(t.name, 0) for t in self.tasks], np.int64)
        self._sizes = np.asarray([len(usable) for usable in self.usable], np.int64)
        self._starts = [first]  # (first row, window), for the windows counted so far
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
                raise ValueError(f"row {row} lies before the window this plan begins at")
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
                examples, ends = self.packed(window)
                bounds = [0, *ends.tolist()]
                self._windows[window] = [
                    examples.select(slice(*b)) for b in zip(bounds[:-1], bounds[1:], strict=True)
                ]
                while len(self._windows) > _WINDOWS_IN_MEMORY:
                    self._windows.popitem(last=False)
            self._windows.move_to_end(window)
            return self._windows[window]

    def packed(self, window: int) -> tuple[Planned, Int64[np.ndarray, "rows"]]:
        """A window's examples, row after row, and where each row ends among them. Pure, keeps nothing."""
        examples = self._examples(window)
        row_of = pack(examples.length, examples.chunks, self.slots, self.max_chunks)
        if self.window_size > min(self._sizes / self.shares):
            _separate_copies(examples, row_of)
        rows = int(row_of.max()) + 1
        shuffled = np.random.Generator(np.random.Philox(key=[self.seed, window])).permutation(rows)[row_of]
        order = np.argsort(shuffled, kind="stable")
        return examples.select(order), np.cumsum(np.bincount(shuffled, minlength=rows))

    def consumed(self, window: int) -> list[int]:
        """Examples taken of each task before a window."""
        taken = np.asarray(self.shares) * self.window_size * (window - self.first[1]) + 0.5
        return (self._cursors + taken.astype(np.int64)).tolist()

    def _examples(self, window: int) -> Planned:
        """Of each task the next part of its endless stream, in which each epoch is a new permutation."""
        begins, ends = np.asarray(self.consumed(window)), np.asarray(self.consumed(window + 1))
        counts = ends - begins
        task = np.repeat(np.arange(len(counts)), counts)
        within_task = np.arange(len(task)) - np.repeat(np.cumsum(counts) - counts, counts)
        epoch, position = np.divmod(begins[task] + within_task, self._sizes[task])
        # Streams are runs of one task and one epoch; keys and columns are looked up once for each.
        starts = np.flatnonzero(np.diff(task, prepend=-1) | np.diff(epoch, prepend=-1))
        runs = [(int(task[s]), int(epoch[s])) for s in starts]
        repeats = np.diff(starts, append=len(task))
        keys = np.stack([round_keys(self.seed, self.tasks[t].name, e) for t, e in runs])
        number = permute(position, self._sizes[task], np.repeat(keys, repeats, axis=0))
        index, lengths, chunks = _columns(self, task, number, counts)
        return _draw_variants(task, epoch, index, lengths, chunks, np.repeat(keys[:, 0], repeats))


class FinitePlan:
    """Rows that hold each usable example once, task after task in order; for validation."""

    def __init__(self, tasks: Sequence[TaskLengths], slots: int, max_chunks: int, window: int = WINDOW):
        self.tasks, self.slots, self.max_chunks = tuple(tasks), slots, max_chunks
        self.usable, self.excluded = usable_records(self.tasks, slots, max_chunks)
        self._window_size = window

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Planned:
        """The examples of a row; beyond the last one, an empty row."""
        return self._rows[row] if row < len(self._rows) else EMPTY_ROW

    @functools.cached_property
    def _rows(self) -> list[Planned]:
        counts = np.asarray([len(usable) for usable in self.usable])
        task = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(task)) - np.repeat(np.cumsum(counts) - counts, counts)
        index, lengths, chunks = _columns(self, task, number, counts)
        epoch, keys = np.zeros_like(task), np.zeros(len(task), np.uint64)
        everything = _draw_variants(task, epoch, index, lengths, chunks, keys)
        rows = []
        for begin in range(0, len(everything), self._window_size):
            examples = everything.select(slice(begin, begin + self._window_size))
            row_of = pack(examples.length, examples.chunks, self.slots, self.max_chunks)
            members = np.split(np.argsort(row_of, kind="stable"), np.cumsum(np.bincount(row_of))[:-1])
            rows += [examples.select(m) for m in sorted(members, key=min)]
        return rows


def _window_size(window: int, slots: int, shares: Sequence[float], usable: Sequence[Usable]) -> int:
    """Enough examples to fill many rows, within few epochs of the task that repeats soonest."""
    mean = sum(share * u.mean_length for share, u in zip(shares, usable, strict=True))
    enough = min(int(_ROWS_TOGETHER * slots / mean), _MOST_GROWTH * window)
    epoch = int(min(len(u) / share for share, u in zip(shares, usable, strict=True)))
    size = min(max(window, enough), epoch)
    return max(_SMALLEST_WINDOW, size if size >= enough else min(enough, _MOST_EPOCHS * epoch))


def _separate_copies(examples: Planned, row_of: np.ndarray) -> None:
    """Where a row has an example twice, one of the two changes places with another of its size."""
    identity = examples.task << 40 | examples.index
    order = np.lexsort((identity, row_of))
    twice = (np.diff(row_of[order]) == 0) & (np.diff(identity[order]) == 0)
    for copy in order[1:][twice].tolist():
        like = (examples.length == examples.length[copy]) & (examples.chunks == examples.chunks[copy])
        here = identity[row_of == row_of[copy]]
        for other in np.flatnonzero(like & ~np.isin(identity, here)).tolist():
            if identity[copy] not in identity[row_of == row_of[other]]:
                row_of[[copy, other]] = row_of[[other, copy]]
                break


def _columns(plan, task: np.ndarray, number: np.ndarray, counts: np.ndarray):
    """Record number [n], lengths and chunks [n, V] of usable examples, which stand task after task."""
    index, lengths, chunks = np.empty_like(number), [], []
    ends = np.cumsum(counts).tolist()
    for t, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if begin == end:
            continue
        here = plan.usable[t][number[begin:end]]
        index[begin:end] = here
        lengths.append(plan.tasks[t].length[here])
        chunks.append(plan.tasks[t].chunks[here])
    return index, _side_by_side(lengths), _side_by_side(chunks)


def _side_by_side(pieces: list[np.ndarray]) -> np.ndarray:
    """int64 [n, V] of pieces [k] or [k, V], filled up with zeros."""
    if all(piece.ndim == 1 for piece in pieces):
        return np.concatenate(pieces).astype(np.int64)[:, None]
    pieces = [piece.reshape(len(piece), -1) for piece in pieces]
    widest = max(piece.shape[1] for piece in pieces)
    return np.concatenate([np.pad(p, ((0, 0), (0, widest - p.shape[1]))) for p in pieces]).astype(np.int64)


def _draw_variants(task, epoch, index, lengths, chunks, keys) -> Planned:
    """Chooses among the variants of each example, by a draw that only its task, epoch and record decide."""
    variant = np.zeros(len(index), np.int64)
    if lengths.shape[1] > 1:
        choices = (lengths > 0).sum(axis=1).astype(np.uint64)
        variant = (mix(keys ^ mix(index.astype(np.uint64))) % choices).astype(np.int64)
    chosen = np.arange(len(index)), variant
    return Planned(task.astype(np.int64), epoch, index, variant, lengths[chosen], chunks[chosen])
