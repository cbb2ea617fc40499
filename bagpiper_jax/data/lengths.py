"""What the plan knows of a task: how long its examples are. Nothing here is larger than the index on disk."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64

from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)
_BLOCK = 1 << 22  # records looked at together, so that scanning a large index needs little memory


class PackPlanError(Explained, ValueError):
    """A plan that cannot be made; says which task and what to change."""


@dataclasses.dataclass(frozen=True)
class TaskLengths:
    """What the plan knows of a task.

    Attributes:
        name, rate: as in the lock.
        length, chunks: integers [records] or [records, variants], columns of the cache's index, which may be
            mapped from disk. A record of fewer variants than others has length 0 for those it lacks.
        direction: integers [records].
        largest: longest length and most chunks, where the manifest tells them; spares reading the columns.
        mean_length: mean over records of a record's mean length, likewise.
    """

    name: str
    rate: float
    length: Int[np.ndarray, "n ..."]
    chunks: Int[np.ndarray, "n ..."]
    direction: Int[np.ndarray, "n"]
    largest: tuple[int, int] | None = None
    mean_length: float | None = None

    def __len__(self) -> int:
        return len(self.length)


@dataclasses.dataclass(frozen=True)
class Excluded:
    """Examples of a task that no row can hold; `largest` are the longest length and the most chunks of any."""

    task: str
    examples: int
    tokens: int
    share: float
    largest: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Usable:
    """The records of a task that fit a row, numbered 0, 1, …; `usable[numbers]` are their record numbers.

    Attributes:
        count: how many.
        records: their record numbers, ascending, or None if all records of the task fit.
        mean_length: mean slots of one.
    """

    count: int
    records: np.ndarray | None
    mean_length: float

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, numbers: Int64[np.ndarray, "k"]) -> Int64[np.ndarray, "k"]:
        return numbers if self.records is None else self.records[numbers].astype(np.int64)


def usable_records(
    tasks: Sequence[TaskLengths], slots: int, max_chunks: int
) -> tuple[tuple[Usable, ...], tuple[Excluded, ...]]:
    """What of each task fits a row, and what is left out.

    Raises:
        PackPlanError: no task, or a task of which no example fits.
    """
    if not tasks:
        raise PackPlanError("the mixture is empty: there is no task to plan")
    found = [_usable(task, slots, max_chunks) for task in tasks]
    return tuple(usable for usable, _ in found), tuple(lost for _, lost in found if lost)


def largest(task: TaskLengths) -> tuple[int, int]:
    """Slots of the longest example of a task, and the most audio chunks that one has."""
    if task.largest:
        return task.largest
    blocks = (_columns(task, slice(begin, begin + _BLOCK)) for begin in range(0, len(task), _BLOCK))
    found = [(int(length.max(initial=0)), int(chunks.max(initial=0))) for length, chunks in blocks]
    return max((n for n, _ in found), default=0), max((n for _, n in found), default=0)


def _usable(task: TaskLengths, slots: int, max_chunks: int) -> tuple[Usable, Excluded | None]:
    fits_all = task.largest and task.largest[0] <= slots and task.largest[1] <= max_chunks
    if fits_all and task.mean_length:
        return Usable(len(task), None, task.mean_length), None
    kept, tokens, all_tokens = [], 0.0, 0.0
    for begin in range(0, len(task), _BLOCK):
        length, chunks = _columns(task, slice(begin, begin + _BLOCK))
        fits = ((length <= slots) & (chunks <= max_chunks)).all(axis=1)
        means = length.sum(axis=1) / np.maximum(1, (length > 0).sum(axis=1))
        kept.append((begin + np.flatnonzero(fits)).astype(np.min_scalar_type(len(task))))
        tokens, all_tokens = tokens + means[fits].sum(), all_tokens + means.sum()
    records = np.concatenate([*kept, np.zeros(0, np.uint8)])
    if not len(records):
        raise PackPlanError(_explain_none(task, slots, max_chunks))
    lost = len(task) - len(records)
    usable = Usable(len(records), records if lost else None, float(tokens / len(records)))
    return usable, _excluded(task, lost, int(all_tokens - tokens), slots, max_chunks) if lost else None


def _columns(task: TaskLengths, block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Length and chunks int64 [block, variants]."""
    length, chunks = (np.asarray(c[block], np.int64) for c in (task.length, task.chunks))
    return length.reshape(len(length), -1), chunks.reshape(len(chunks), -1)


def _explain_none(task: TaskLengths, slots: int, max_chunks: int) -> str:
    length, chunks = _columns(task, slice(None))
    shortest = length.max(axis=1, initial=0).min(initial=0), chunks.max(axis=1, initial=0).min(initial=0)
    return (
        f"no example of {task.name} fits a row of {slots} slots and {max_chunks} audio chunks; its "
        f"shortest has {shortest[0]} slots, {shortest[1]} chunks"
    )


def _excluded(task: TaskLengths, lost: int, tokens: int, slots: int, max_chunks: int) -> Excluded:
    share, most = lost / len(task), largest(task)
    _log.warning(
        "%s: %d examples (%.1f %%, %d tokens) exceed a row of %d slots and %d chunks; left out; the longest has %d "
        "slots and %d chunks", task.name, lost, 100 * share, tokens, slots, max_chunks, *most,
    )  # fmt: skip
    return Excluded(task.name, lost, tokens, share, most)


def example_shares(
    tasks: Sequence[TaskLengths], usable: Sequence[Usable], rate_unit: str
) -> tuple[float, ...]:
    """What share of all examples each task gives, so that examples or tokens come at its rate."""
    rates = [task.rate for task in tasks]
    if rate_unit == "tokens":
        rates = [rate / each.mean_length for rate, each in zip(rates, usable, strict=True)]
    return tuple(rate / sum(rates) for rate in rates)
