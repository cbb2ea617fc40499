"""A locked mixture opened for serving."""

import dataclasses
import os

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lengths import TaskLengths
from bagpiper_jax.data.lock import Lock, LockedTask, open_caches, read_lock
from bagpiper_jax.data.shuffle import short_hash


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A locked mixture with its caches open, as one plan of a run reads it."""

    lock: Lock
    caches: tuple[TaskCache, ...]
    split: str

    @classmethod
    def open(cls, path: str | os.PathLike, split: str) -> "Mixture":
        """Raises CacheError: the lock or a cache is missing or damaged."""
        lock = read_lock(path)
        return cls(lock, tuple(open_caches(path, lock, split)), split)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(task.task for task in self.lock.tasks(self.split))

    def lengths(self) -> list[TaskLengths]:
        """What a plan needs of the tasks."""
        return [task_lengths(*both) for both in zip(self.lock.tasks(self.split), self.caches, strict=True)]

    def identity(self) -> dict[str, str]:
        """What a checkpoint remembers of it."""
        tasks = self.lock.tasks(self.split)
        return {
            "mixture": self.lock.mixture,
            "caches": short_hash([(t.task, t.manifest_sha256) for t in tasks]),
            "rates": short_hash([self.lock.rate_unit, [(t.task, t.rate) for t in tasks]]),
        }


def task_lengths(task: LockedTask, cache: TaskCache) -> TaskLengths:
    """What a plan needs of a locked task; its columns stay on disk."""
    direction = cache.index["direction"]
    return TaskLengths(task.task, task.rate, *cache.lengths, direction, cache.largest, cache.mean_length)
