"""What became of one clip: its example in every task, or why it was rejected."""

import dataclasses

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.records import Record, RecordError


@dataclasses.dataclass(frozen=True)
class Fate:
    """A clip in one task: `record` number `index`, or `reject` (id, reason, detail), or neither.

    Attributes:
        task: its name.
        index: -1 without a record.
    """

    task: str
    index: int = -1
    record: Record | None = None
    reject: dict | None = None


def find(loader: Loader, clip: str) -> list[Fate]:
    """Looks a clip up by id in every task of a mixture, reading records until it is found."""
    return [_fate(name, cache, clip) for name, cache in zip(loader.task_names, loader.caches, strict=True)]


def _fate(task: str, cache: TaskCache, clip: str) -> Fate:
    for reject in cache.rejects():
        if reject["id"] == clip:
            return Fate(task, reject=reject)
    for index in range(len(cache)):
        try:
            record = cache.read(index)
        except RecordError:
            continue  # rows that hold it name it; here only the id counts
        if record.id == clip:
            return Fate(task, index, record)
    return Fate(task)
