"""What corpora built from files share: counted rejections, splits, workers, the ending.

A builder turns records into `Clip`s or `Reject`s. Nothing is dropped silently: `finish` writes the manifest,
`rejects.jsonl` (file, record, reason and remedy of each record left out) and `corpus.json` with counts.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from bagpiper_jax import audio, files
from bagpiper_jax.errors import Explained
from bagpiper_jax.journal import JournalError
from bagpiper_jax.manifest import MANIFEST, REJECTS, SPLITS, Clip, write_manifest
from bagpiper_jax.outcomes import RecordError, Rejected
from bagpiper_jax.workers import worker_pool

SUMMARY = "corpus.json"
JOURNAL = "journal.jsonl"

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class CorpusError(Explained, ValueError):
    """A corpus that cannot be built; the message says what was found and what to do."""


def fault_of(error: Exception) -> RecordError:
    """What a record is rejected with whose reading or making ended in an error, whatever it is.

    Raises:
        WriteError, JournalError, CorpusError: the error, where it is the disk's or the whole corpus's fault.
    """
    if isinstance(error, RecordError):
        return error
    if isinstance(error, audio.AudioError):
        return RecordError(f"{error.reason}_audio", error.detail, audio.REMEDIES[error.reason])
    if isinstance(error, files.WriteError | JournalError | CorpusError):
        raise error
    _log.debug("a record is rejected for an error", exc_info=error)
    remedy = "mend the record, or what reads it; the log has the traceback at debug level"
    return RecordError(f"error_{type(error).__name__}", str(error)[:1000] or "no message", remedy)


@dataclasses.dataclass(frozen=True)
class Reject:
    """A record left out.

    Attributes:
        file: where the record was read.
        line: line number in `file` from 1, or 0 where the record is not a line.
        id: the record's id as far as known.
        reason: a short name to count by, e.g. `corrupt_audio`.
        detail: what was found.
        remedy: what the owner of the data can do.
    """

    file: str
    line: int
    id: str
    reason: str
    detail: str
    remedy: str

    @classmethod
    def by(cls, fault: RecordError | Rejected, file: str, line: int, id: str) -> "Reject":
        """A record that a fault leaves out."""
        return cls(file, line, id, fault.reason, fault.detail, fault.remedy)


def digest(*parts: object) -> str:
    """A short stable name of some JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def safe_id(plain: str) -> str:
    """A clip's id for any name; what a file name cannot hold is replaced, and a digest tells such ids apart."""
    safe = re.sub(r"[^\w.-]", "-", plain).lstrip(".")
    return safe if safe == plain and len(safe) <= 100 else f"{safe[:80]}-{digest(plain)[:10]}"


def hash_split(group: str, seed: int, held_out: float) -> str:
    """The split of a group: validation and test get a `held_out` share of the groups each.

    It depends on nothing but the group's name and the seed, so records added later move no earlier one.
    """
    place = int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64
    if place < held_out:
        return "test"
    return "validation" if place < 2 * held_out else "train"


def parallel_map(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int,
    describe: Callable[[_Item], str] = str,
) -> Iterator[tuple[_Item, _Result]]:
    """Yields (item, function(item)) as results come in, from `workers` processes (1: in this process).

    Raises:
        CorpusError: a worker died, as a decoder may on a hostile file; names candidates.
    """
    if workers <= 1 or len(items) < 2:
        for item in items:
            yield item, function(item)
        return
    with worker_pool(workers) as pool:
        futures = {pool.submit(function, item): item for item in items}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise CorpusError(
                f"a worker process died near {describe(futures[future])}; run again with workers=1 to see on which "
                "record (finished records are not done again)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def count(values: Iterable[str]) -> dict[str, int]:
    """Occurrences, most frequent first, ties by name."""
    counter = collections.Counter(values)
    return dict(sorted(counter.items(), key=lambda pair: (-pair[1], pair[0])))


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes JSON atomically."""
    path = Path(path)
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def require_replaceable(directory: str | os.PathLike, kind: str) -> None:
    """Raises CorpusError if the directory holds a corpus of another kind, which a build would overwrite."""
    directory = Path(directory)
    if not (directory / MANIFEST).exists():
        return
    try:
        found = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))["corpus"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "unknown"
    if found != kind:
        raise CorpusError(f"{directory} holds another corpus ({found}); choose an empty directory")


def begin(directory: str | os.PathLike, kind: str) -> None:
    """Readies the directory of a corpus for a build, and removes what killed builds left half written.

    Raises:
        CorpusError: the directory holds a corpus of another kind, which a build would overwrite.
    """
    require_replaceable(directory, kind)
    for folder in ("", "audio", "audio/messages", "audio/pieces"):
        files.remove_leftovers(Path(directory) / folder)


def write_rejects(directory: str | os.PathLike, rejects: Iterable[Reject]) -> Path:
    """Writes `rejects.jsonl`, one `Reject` a line; an empty file says that nothing was rejected."""
    path = Path(directory) / REJECTS
    lines = [json.dumps(dataclasses.asdict(reject), ensure_ascii=False) + "\n" for reject in rejects]
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, "".join(lines).encode("utf-8", errors="backslashreplace"))
    return path


def finish(
    directory: str | os.PathLike,
    clips: Sequence[Clip],
    rejects: Sequence[Reject],
    facts: Mapping[str, object],
    max_reject_frac: float = 1.0,
) -> Path:
    """Ends a build: rejects, then, unless too many were rejected, summary and manifest.

    Raises:
        CorpusError: there was no record, no clip is left, or more than `max_reject_frac` of the records were
            rejected. An old manifest is removed then, so that nothing downstream takes it for this build's.
    """
    directory = Path(directory)
    path = write_rejects(directory, rejects)
    reasons = count(reject.reason for reject in rejects)
    total = len(clips) + len(rejects)
    if not clips or len(rejects) > max_reject_frac * total:
        (directory / MANIFEST).unlink(missing_ok=True)
        if not total:
            source = facts.get("source", "the source")
            raise CorpusError(
                f"{source} holds no records: there are none to read; check that it is the right one"
            )
        limit = f"more than max_reject_frac={max_reject_frac:g} allows" if clips else "none is left"
        raise CorpusError(
            f"{len(rejects)} of {total} records were rejected ({listing(reasons)}): {limit}; {path} lists each with "
            "its remedy"
        )
    write_json(directory / SUMMARY, {**facts, **summary(clips), "rejects": reasons})
    write_manifest(directory, clips)
    _report(directory, clips, reasons)
    return directory


def summary(clips: Sequence[Clip]) -> dict:
    """Counts of a corpus: clips and minutes by domain, clips by split, language, licence and source."""
    minutes = collections.defaultdict(float)
    for clip in clips:
        minutes[clip.domain] += clip.duration / 60
    tables = {field: count(getattr(clip, field) for clip in clips) for field in _COUNTED}
    return {
        "clips": len(clips),
        "hours": round(sum(minutes.values()) / 60, 3),
        "minutes_by_domain": {domain: round(value, 1) for domain, value in sorted(minutes.items())},
        **{f"clips_by_{field}": table for field, table in tables.items()},
    }


_COUNTED = ("domain", "split", "language", "licence", "source")


def straddling(clips: Iterable[Clip]) -> list[str]:
    """Groups that occur in more than one split."""
    splits = collections.defaultdict(set)
    for clip in clips:
        splits[clip.group].add(clip.split)
    return sorted(group for group, found in splits.items() if group and len(found) > 1)


def _report(directory: Path, clips: Sequence[Clip], reasons: Mapping[str, int]) -> None:
    hours = sum(clip.duration for clip in clips) / 3600
    splits = {split: sum(clip.split == split for clip in clips) for split in SPLITS}
    _log.info("%s: %d clips, %.2f h; %s", directory, len(clips), hours, listing(splits))
    _log.info("rejected: %s", listing(reasons) or "none")


def listing(table: Mapping[str, int]) -> str:
    """ "kept 3, near_duplicate 1"."""
    return ", ".join(f"{name} {number:,}" for name, number in table.items())
