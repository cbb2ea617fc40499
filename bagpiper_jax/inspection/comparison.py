"""What differs between two caches of a mixture: tasks, provenance, and every record by its clip's id."""

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Iterator

import numpy as np

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lock import Lock, open_caches, read_lock
from bagpiper_jax.data.records import Record
from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)

PARTS = ("messages", "text", "codes", "audio")


@dataclasses.dataclass(frozen=True)
class Changed:
    """A clip whose records differ: its id, its record number in either cache, and the parts that differ."""

    id: str
    first: int
    second: int
    parts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TaskDifference:
    """What differs in one task and split.

    Attributes:
        task: the task's name.
        records: the number of records in either cache; 0 where the task is missing.
        made_from: provenance that differs, readable.
        same: clips with equal records.
        removed, added: clip ids that only the first or the second has, with the reason where the second or the
            first rejected the clip.
        changed: clips whose records differ.
        damaged: records that could not be read.
    """

    task: str
    records: tuple[int, int]
    made_from: tuple[str, ...] = ()
    same: int = 0
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        return not (self.made_from or self.removed or self.added or self.changed or self.damaged)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two locked mixtures: `settings` of the locks that differ, and every task of either."""

    first: str
    second: str
    settings: tuple[str, ...]
    tasks: tuple[TaskDifference, ...]

    @property
    def is_equal(self) -> bool:
        return not self.settings and all(task.is_equal for task in self.tasks)


def compare(first: str, second: str, split: str) -> Difference:
    """Compares two locks and the caches behind them. Reads every record of caches that differ.

    Raises:
        CacheError: a lock or cache is missing or damaged.
    """
    locks = read_lock(first), read_lock(second)
    one, two = (_by_task(path, lock, split) for path, lock in zip((first, second), locks, strict=True))
    tasks = tuple(compare_caches(name, one.get(name), two.get(name)) for name in dict.fromkeys([*one, *two]))
    return Difference(first, second, _settings(*locks, split), tasks)


def _by_task(path: str, lock: Lock, split: str) -> dict[str, TaskCache]:
    return dict(zip((t.task for t in lock.tasks(split)), open_caches(path, lock, split), strict=True))


def _settings(one: Lock, two: Lock, split: str) -> tuple[str, ...]:
    """Fields of the locks, and rates, that differ."""
    found = []
    for field in dataclasses.fields(Lock):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if field.name != "splits" and a != b:
            found.append(f"{field.name}: {a!r} → {b!r}")
    rates = [{task.task: task.rate for task in lock.tasks(split)} for lock in (one, two)]
    changed = [t for t in rates[0] if t in rates[1] and rates[0][t] != rates[1][t]]
    return (*found, *(f"rate of {t}: {rates[0][t]:g} → {rates[1][t]:g}" for t in changed))


def compare_caches(task: str, one: TaskCache | None, two: TaskCache | None) -> TaskDifference:
    """Compares two caches of a task; None stands for a cache that is not there."""
    sizes = (len(one) if one else 0, len(two) if two else 0)
    if one is None or two is None:
        return TaskDifference(task, sizes, ("the task is only in the " + ("first" if one else "second"),))
    if one.manifest_sha256 == two.manifest_sha256:
        return TaskDifference(task, sizes, same=len(one))
    damaged: list[str] = []
    before, after = _digests(one, "first", damaged), _digests(two, "second", damaged)
    both = [key for key in before if key in after]
    parts = {key: _differing(before[key][1], after[key][1]) for key in both}
    return TaskDifference(
        task,
        sizes,
        _made_from(one.manifest["provenance"], two.manifest["provenance"]),
        same=sum(not p for p in parts.values()),
        removed=_missing(before, after, two),
        added=_missing(after, before, one),
        changed=tuple(Changed(k[0], before[k][0], after[k][0], p) for k, p in parts.items() if p),
        damaged=tuple(damaged),
    )


Key = tuple[str, int]
"""A clip's id, and which of the records of that id: ids of foreign caches may repeat."""


def _digests(cache: TaskCache, which: str, damaged: list[str]) -> dict[Key, tuple[int, tuple[bytes, ...]]]:
    """Key → record number and a digest of each of `PARTS`."""
    found, seen = {}, collections.Counter()
    for index in range(len(cache)):
        try:
            record = cache.read(index)
        except Explained as error:
            damaged.append(f"{which}: {error}")
            continue
        except Exception as error:
            damaged.append(f"{which}: record {index}: {type(error).__name__}: {error}")
            _log.debug("record %d of %s cannot be compared", index, cache.directory, exc_info=error)
            continue
        found[record.id, seen[record.id]] = index, tuple(_digest(part) for part in _parts(record))
        seen[record.id] += 1
    return found


def _parts(record: Record) -> Iterator[bytes]:
    table = (record.role, record.modality, record.start, record.length, record.weight, record.variant)
    yield b"".join(np.ascontiguousarray(column).tobytes() for column in table)
    yield np.ascontiguousarray(record.text).tobytes()
    yield str(record.codes.shape).encode() + np.ascontiguousarray(record.codes).tobytes()
    yield record.audio


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


def _differing(one: tuple[bytes, ...], two: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(name for name, a, b in zip(PARTS, one, two, strict=True) if a != b)


def _missing(here: dict, there: dict, other: TaskCache) -> tuple[str, ...]:
    """Ids that only `here` has, with the reason where `other` rejected the clip."""
    absent = [key[0] for key in here if key not in there]
    if not absent:
        return ()
    reasons = {reject["id"]: reject["reason"] for reject in other.rejects()}
    return tuple(f"{name} ({reasons[name]})" if name in reasons else name for name in absent)


def _made_from(one: dict, two: dict) -> tuple[str, ...]:
    """Provenance that differs, one line each."""
    found = []
    for name in sorted(set(one) | set(two)):
        a, b = one.get(name), two.get(name)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(k for k in set(a) | set(b) if a.get(k) != b.get(k))
            found += [f"{name} {k}: {_short(a.get(k))} → {_short(b.get(k))}" for k in keys]
        else:
            found.append(f"{name}: {_short(a)} → {_short(b)}")
    return tuple(found)


def _short(value) -> str:
    text = "–" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
