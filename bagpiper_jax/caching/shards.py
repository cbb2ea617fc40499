"""Writing one shard of a task's cache. Every input ends as a record, a skip or a rejection; all are counted."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import files, outcomes
from bagpiper_jax.data import cache, records
from bagpiper_jax.data.records import Record
from bagpiper_jax.errors import Explained
from bagpiper_jax.outcomes import Fatal, Kept, Outcome, RecordError, Rejected

_log = logging.getLogger(__name__)
_WRITER = "group_size:1,uncompressed"
_MAX_CONSECUTIVE_ERRORS = 100
_TEXT_SHOWN = 200  # text ids of a reject that are kept


class ExportError(Explained):
    """Caching cannot go on; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a record must satisfy.

    Attributes:
        text_size, codebook_size, num_streams: sizes that ids must stay below, and S.
        max_slots: longest rendered example.
        max_chunks: most audio chunks of an example; 0 for no limit.
    """

    text_size: int
    codebook_size: int
    num_streams: int
    max_slots: int
    max_chunks: int = 0


def part_path(directory: Path, shard: int) -> Path:
    """The file whose presence says that a shard is whole."""
    return directory / f"part-{shard:05d}.json"


def variants_path(directory: Path, shard: int) -> Path:
    """Lengths of the variants of a shard's records, uint32 [records, V, 2]; only where V is above 1."""
    return directory / f"part-{shard:05d}-variants.npy"


def missing(directory: Path, shards: int) -> list[int]:
    """The shards that no earlier attempt finished."""
    return [shard for shard in range(shards) if not part_path(directory, shard).exists()]


def write_shard(
    examples: Iterator[dict], inputs: int, limits: Limits, directory: Path, shard: int, shards: int
) -> None:
    """Writes shard files, then its part file; a kill at any moment leaves either the whole part or none.

    Args:
        examples: a task's examples as numpy, with or without the features `id`, `outcome` and `record` (what it
            was made from, as JSON or as its value, for the list of rejects); `next` may raise.
        inputs: the number of examples that the source had for this shard.

    Raises:
        ExportError: 100 examples in a row failed, one said that none can succeed, or the disk refused.
    """
    with writing(directory), _Families(directory, shard, shards) as families:
        columns, variants, rejects, counts = [], [], [], collections.Counter()
        for number, judged in enumerate(judge(examples, limits)):
            record, outcome = judged.record, judged.outcome
            if record is None:
                counts[outcome.counted_as] += 1
                if isinstance(outcome, Rejected):
                    place = {"shard": shard, "number": number, "record": judged.source}
                    rejects.append(
                        {"id": judged.id, "reason": outcome.reason, "detail": str(outcome), **place}
                    )
                continue
            measure, core = records.measure(record, limits.num_streams), records.encode(record)
            lengths = [getattr(measure, column) for column in cache.LENGTH_COLUMNS]
            columns.append([*lengths, _hash(core, record.audio)])
            variants.append(measure.variants)
            families.write(core, record.audio)
        _count_filtered(counts, len(columns), inputs)
        table = np.asarray(columns, np.uint64).reshape(-1, len(cache.INDEX_COLUMNS))
        part = {
            "inputs": inputs,
            "records": len(columns),
            "counts": {"ok": len(columns), **dict(sorted(counts.items()))},
            "max": table.max(axis=0, initial=0).tolist(),
            "sum": table[:, :-1].sum(axis=0).tolist(),
            "variants": max(map(len, variants), default=1),
            "sum_of_means": sum(sum(length for length, _ in each) / len(each) for each in variants),
            "rejects": rejects,
            "files": families.finish(),
        }
        files.replace(directory / f"part-{shard:05d}.npy", _npy(table))
        if part["variants"] > 1:
            files.replace(variants_path(directory, shard), _npy(variant_table(variants)))
        files.replace(part_path(directory, shard), json.dumps(part).encode())


class _Families:
    """The ArrayRecord files of a shard, under temporary names until `finish`.

    That of audio begins with the first record that has some. In it every record has its number, those without audio
    as an empty one, so that one index serves both.
    """

    def __init__(self, directory: Path, shard: int, shards: int):
        self._paths = {
            family: directory / cache.shard_name(family, shard, shards) for family in cache.FAMILIES
        }
        self._temporary = {family: str(files.temporary_path(path)) for family, path in self._paths.items()}
        self._writers = {"core": self._open("core")}
        self._written = 0

    def __enter__(self) -> "_Families":
        return self

    def __exit__(self, *_) -> None:
        """What `finish` did not name is removed."""
        for family, writer in self._writers.items():
            if writer.is_open():
                with contextlib.suppress(RuntimeError):  # a disk that is full refuses the rest too
                    writer.close()
            Path(self._temporary[family]).unlink(missing_ok=True)

    def write(self, core: bytes, audio: bytes) -> None:
        self._writers["core"].write(core)
        if audio and "audio" not in self._writers:
            self._writers["audio"] = self._open("audio")
            for _ in range(self._written):
                self._writers["audio"].write(b"")
        if "audio" in self._writers:
            self._writers["audio"].write(audio)
        self._written += 1

    def finish(self) -> dict[str, dict]:
        """Gives the files their names; returns bytes and checksum of each."""
        for writer in self._writers.values():
            writer.close()
        found = {}
        for family in self._writers:
            temporary = self._temporary[family]
            found[family] = {"bytes": os.path.getsize(temporary), "sha256": files.sha256(temporary)}
            os.replace(temporary, self._paths[family])
        return found

    def _open(self, family: str):
        from array_record.python import array_record_module

        return array_record_module.ArrayRecordWriter(self._temporary[family], _WRITER)


@contextlib.contextmanager
def writing(directory: Path):
    """Explains what the disk refuses. Raises ExportError; what was finished stays."""
    try:
        yield
    except ExportError:
        raise
    except (OSError, RuntimeError) as error:  # ArrayRecord reports a full disk as RuntimeError
        what = files.refusal(directory, error).what if isinstance(error, OSError) else error
        raise ExportError(
            f"cannot write the cache {directory}: {what}. Free space or permissions there, or choose another "
            "CacheConfig.cache_dir, and run cache_tasks again; finished shards are kept"
        ) from error


@dataclasses.dataclass(frozen=True)
class Judged:
    """What became of one example.

    Attributes:
        id: of the clip, or where it was read.
        outcome: `Kept`, `Skipped` or `Rejected`.
        record: of one that is kept.
        source: what one that is not was made from, for the list of rejects.
    """

    id: str
    outcome: Outcome
    record: Record | None = None
    source: object = None


def judge(examples: Iterator[dict], limits: Limits) -> Iterator[Judged]:
    """Judges every example that the pipeline delivers; exceptions become rejections.

    Raises:
        ExportError: an example is `Fatal`, or 100 in a row failed.
    """
    consecutive = 0
    while True:
        try:
            example = next(examples)
        except StopIteration:
            return
        except ExportError:
            raise
        except Exception as error:  # whatever a preprocessor may raise, TensorFlow wraps it
            consecutive += 1
            kind, message = _cause(error)
            if consecutive >= _MAX_CONSECUTIVE_ERRORS:
                raise ExportError(
                    f"{consecutive} examples in a row failed; the last one with: {kind}: {message}"
                ) from error
            yield Judged("", Rejected(f"error_{kind}", message))
            continue
        consecutive = 0
        name = _text(example.get("id", b""))
        match _outcome(example):
            case Kept():
                yield _judged(example, name, limits)
            case Fatal(explanation):
                raise ExportError(explanation)
            case outcome:
                yield Judged(name, outcome, source=_source(example))


def _outcome(example: dict) -> Outcome:
    """What the task's preprocessor says; one of somebody else's may say nothing."""
    try:
        return outcomes.decode(example.get("outcome", b""))
    except ValueError as error:
        return Rejected("bad_outcome", str(error), "encode it with bagpiper_jax.outcomes")


def _judged(example: dict, name: str, limits: Limits) -> Judged:
    try:
        return Judged(name, Kept(), checked(example, name, limits))
    except RecordError as error:
        return Judged(name, Rejected.by(error), source=_source(example))


def _source(example: dict) -> object:
    """What a rejected example was made from, as far as its task tells; else what it became, in short."""
    source = example.get("record", b"")
    if isinstance(source, dict):
        return source
    if source := _text(source):
        try:
            return json.loads(source)
        except ValueError:
            return source
    table = {name: example[name] for name in ("msg_role", "msg_modality", "msg_len") if name in example}
    text = example.get("text", ())
    try:
        shown = {name: np.asarray(value).tolist() for name, value in table.items()}
        shown["text"] = np.asarray(text).ravel()[:_TEXT_SHOWN].tolist()
        json.dumps(shown)
        return shown
    except (TypeError, ValueError):  # no arrays of numbers, which may be what it is rejected for
        return repr(table | {"text": text})[:1000]


def checked(example: dict, name: str, limits: Limits) -> Record:
    """The record of an example. Raises RecordError: it is faulty, or exceeds the limits."""
    try:
        return _checked(example, name, limits)
    except RecordError:
        raise
    except Exception as error:  # a task of anyone's may hand over anything
        _log.debug("example %s is rejected for an error", name, exc_info=error)
        raise RecordError(f"error_{type(error).__name__}", str(error)) from error


def _checked(example: dict, name: str, limits: Limits) -> Record:
    record = Record.from_example(example, name)
    records.validate(record, limits.text_size, limits.codebook_size, limits.num_streams)
    slots, chunks = map(max, zip(*records.measure(record, limits.num_streams).variants, strict=True))
    if slots > limits.max_slots:
        raise RecordError(
            "too_long",
            f"{slots} slots, the limit is {limits.max_slots}; shorten it or raise CacheConfig.max_slots",
        )
    if limits.max_chunks and chunks > limits.max_chunks:
        raise RecordError(
            "too_many_chunks",
            f"{chunks} chunks, the limit is {limits.max_chunks}; cut the audio or raise CacheConfig.max_chunks",
        )
    return record


def _cause(error: Exception) -> tuple[str, str]:
    """Type and message of the Python exception inside TensorFlow's."""
    found = re.search(r"(\w+(?:Error|Exception)): ([^\n]*)", str(error))
    return (found[1], found[2]) if found else (type(error).__name__, str(error))


def _count_filtered(counts: collections.Counter, records_: int, inputs: int) -> None:
    """Inputs that the pipeline dropped without a word are counted as filtered."""
    seen = records_ + sum(counts.values())
    if seen > inputs:
        raise ExportError(
            f"{seen} examples came of {inputs} inputs; a cached task maps a clip to one example"
        )
    if seen < inputs:
        counts["skipped filtered"] += inputs - seen


def variant_table(variants: Sequence[tuple[tuple[int, int], ...]]) -> np.ndarray:
    """(length, chunks) of each variant, zeros for those that a record lacks: uint32 [records, V, 2]."""
    table = np.zeros((len(variants), max(map(len, variants)), 2), np.uint32)
    for row, lengths in zip(table, variants, strict=True):
        row[: len(lengths)] = lengths
    return table


def _hash(core: bytes, audio: bytes) -> int:
    """64 bits over a record's contents, to compare caches by."""
    digest = hashlib.blake2b(core, digest_size=8)
    digest.update(audio)
    return int.from_bytes(digest.digest(), "little")


def _npy(table: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()


def _text(value) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
