"""Whether a system was trained on what it is tested with: the sources of its locks beside those of a benchmark."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.evaluation.systems.config import CaptionedSystem, CheckpointSystem, SystemConfig

_log = logging.getLogger(__name__)
_LOCKS = re.compile(r"^TrainConfig\.(?:train_lock|migrate_from)\s*=(.*(?:\n[ \t]+.*)*)", re.M)
_FROM = re.compile(r"^TrainConfig\.init_from\s*=\s*\\?\s*['\"](.+?)['\"]", re.M)
_QUOTED = re.compile(r"['\"](.+?)['\"]")
_SHORT = 5
"""Names of fewer letters must be whole words."""
_MOST_RUNS = 16
"""That began from one another."""


def sources(system: SystemConfig, locks: Sequence[str]) -> list[str] | None:
    """The tasks that a system was trained on, by its run's locks and those that are named; None where nothing is known.

    A run of ours tells its locks, and the run that it began from, in `operative.gin`. What is not here is left out, and
    the log says so.
    """
    named = list(locks)
    if isinstance(system, CaptionedSystem):
        system = system.captions
    if isinstance(system, CheckpointSystem):
        named += _locks_of(system.checkpoint)
    tasks: list[str] = []
    known = False
    for lock in dict.fromkeys(named):
        try:
            read = read_lock(lock)
        except CacheError as error:
            _log.warning("what the system was trained on is not known in full: %s", error)
            continue
        known = True
        tasks += [read.mixture, *(task.task for task in read.splits.get("train", ()))]
        tasks += [Path(task.path).name for task in read.splits.get("train", ())]
    return list(dict.fromkeys(tasks)) if known else None


def found(overlaps: Iterable[str], trained: Sequence[str] | None) -> list[str] | None:
    """The tasks that name one of a benchmark's sources; None where nothing is known of the training."""
    if trained is None:
        return None
    return [task for task in trained if any(_names(task, source) for source in overlaps)]


def _names(task: str, source: str) -> bool:
    """Whether a task's name holds a source's: `AudioSet` and `audio_set` are one, and `fma` is no part of a word."""
    words, wanted = re.split(r"[\W_]+", task.lower()), re.sub(r"[\W_]", "", source.lower())
    return bool(wanted) and (wanted in words or (len(wanted) >= _SHORT and wanted in "".join(words)))


def _locks_of(checkpoint: str) -> list[str]:
    """The locks that a run was trained with, and those of the runs that it began from."""
    locks: list[str] = []
    place: str | None = checkpoint
    for _ in range(_MOST_RUNS):
        path = None if place is None else _operative(place)
        if path is None:
            break
        text = path.read_text(encoding="utf-8", errors="replace")
        locks += [name for setting in _LOCKS.findall(text) for name in _QUOTED.findall(setting)]
        began = _FROM.search(text)
        place = began[1] if began else None
    return locks


def _operative(checkpoint: str) -> Path | None:
    """The `operative.gin` of a run, whether it or one of its steps is named."""
    path = Path(checkpoint).absolute()
    return next(
        (p / "operative.gin" for p in (path, *path.parents[:2]) if (p / "operative.gin").is_file()), None
    )
