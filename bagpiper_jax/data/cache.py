"""Reading the cache of one task and split: ArrayRecord shards, an index, a manifest. No TensorFlow.

The directory may be in a bucket: files then come to this machine whole, when they are first wanted, and are compared
with the manifest, which the lock vouches for.

<cache_dir>/<task>/<split>/<fingerprint>/
    core.array_record-00000-of-00002     messages, text ids, codes    (data.records.encode)
    audio.array_record-00000-of-00002    FLAC of the same records; absent where no record of the shard has audio
    index_length.npy  index_chunks.npy  …      a column of lengths each, and one of hashes; mapped, not read
    index_variant_length.npy  …_chunks.npy     of all variants [records, V], where records have more than one
    rejects.jsonl  manifest.json  COMPLETE
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bagpiper_jax import buckets, files, strict
from bagpiper_jax.data import records
from bagpiper_jax.data.records import Record
from bagpiper_jax.errors import Explained
from bagpiper_jax.outcomes import RecordError

FORMAT = 3
FAMILIES = ("core", "audio")
REJECTS, MANIFEST, COMPLETE = "rejects.jsonl", "manifest.json", "COMPLETE"
LENGTH_COLUMNS = ("length", "chunks", "direction", "n_text", "n_frames", "n_audio")
INDEX_COLUMNS = (*LENGTH_COLUMNS, "hash")
VARIANT_COLUMNS = ("variant_length", "variant_chunks")
_HASHED_INDEX = 64 << 20
"""Columns of the index up to so many bytes are hashed each time a run starts; larger ones would delay it."""


class CacheError(Explained, ValueError):
    """A cache that cannot be served; names the file and the remedy."""


def index_path(directory: Path, column: str) -> Path:
    return Path(directory) / f"index_{column}.npy"


def shard_name(family: str, shard: int, shards: int) -> str:
    return f"{family}.array_record-{shard:05d}-of-{shards:05d}"


@dataclasses.dataclass(frozen=True)
class TaskCache:
    """One cached task and split, opened for reading by many threads.

    Attributes:
        where: its directory, which may be in a bucket.
    """

    where: str | os.PathLike

    def __post_init__(self):
        try:
            is_finished = buckets.exists(buckets.inside(self.where, COMPLETE))
        except OSError as error:
            raise CacheError(
                f"{self.directory} cannot be read: {error.strerror}; run cache_tasks again"
            ) from error
        if not is_finished:
            raise CacheError(f"{self.directory} is no finished cache; run cache_tasks to make or finish it")

    @property
    def directory(self) -> Path:
        """Where its files are on this machine."""
        return buckets.local_of(self.where)

    @functools.cached_property
    def manifest(self) -> dict:
        """Raises CacheError: it is damaged, or of another format."""
        try:
            manifest = strict.loads(self._manifest_bytes)
            found = manifest.get("format", "an older one")
        except (ValueError, AttributeError) as error:
            raise CacheError(
                f"{self.directory / MANIFEST} is damaged ({error}); run cache_tasks again"
            ) from error
        if found != FORMAT or isinstance(found, bool):
            raise CacheError(
                f"{self.directory} has cache format {found}, this version reads {FORMAT}; run cache_tasks again, "
                "it makes a new cache beside the old one"
            )
        return manifest

    @functools.cached_property
    def manifest_sha256(self) -> str:
        return hashlib.sha256(self._manifest_bytes).hexdigest()

    @functools.cached_property
    def _manifest_bytes(self) -> bytes:
        try:
            return buckets.read(buckets.inside(self.where, MANIFEST))
        except OSError as error:
            raise CacheError(
                f"{self.directory} lost its manifest ({error}); run cache_tasks again"
            ) from error

    @functools.cached_property
    def index(self) -> dict[str, np.ndarray]:
        """Columns of `INDEX_COLUMNS`, each [records], of the narrowest unsigned type that holds it.

        Where records have variants, length, chunks and direction are those of the first, and `VARIANT_COLUMNS` are
        there too. Columns are mapped from disk: what is looked at comes into memory, and the processes of a host
        share it.
        """
        found = {}
        for name in (*INDEX_COLUMNS, *VARIANT_COLUMNS[: 2 * self._has_variants]):
            path = index_path(self.directory, name)
            try:
                found[name] = (
                    np.load(self._column(name), mmap_mode="r", allow_pickle=False)
                    if len(self)
                    else np.zeros(0, int)
                )
            except (OSError, ValueError) as error:
                raise CacheError(f"{path} is missing or damaged ({error}); cache again") from error
            found[name] = np.asarray(found[name])  # an array like others, over the same pages
            if len(found[name]) != len(self):
                raise CacheError(
                    f"{path} has {len(found[name])} rows, the manifest says {len(self)}; cache again"
                )
        return found

    @property
    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots and chunks, [records], or [records, V] where records have variants, 0 for those that one lacks."""
        length, chunks = VARIANT_COLUMNS if self._has_variants else LENGTH_COLUMNS[:2]
        return self.index[length], self.index[chunks]

    @property
    def largest(self) -> tuple[int, int]:
        """The longest length and the most chunks of a record, in any variant."""
        columns = self.manifest["index"]
        length, chunks = VARIANT_COLUMNS if self._has_variants else LENGTH_COLUMNS[:2]
        return columns[length]["max"], columns[chunks]["max"]

    @property
    def mean_length(self) -> float:
        """Mean slots of a record; of one with variants, their mean."""
        columns = self.manifest["index"]
        slots = columns["variant_length"]["sum_of_means"] if self._has_variants else columns["length"]["sum"]
        return slots / max(1, len(self))

    @property
    def _has_variants(self) -> bool:
        return "variant_length" in self.manifest["index"]

    def __len__(self) -> int:
        return self.manifest["records"]

    def read(self, index: int, audio: bool = True) -> Record:
        """Reads one record. Files of audio are opened for records that have some, and only then.

        Args:
            audio: False leaves the record's audio where it is; `Record.audio` is b"".

        Raises:
            RecordError: its bytes are damaged; the file is named.
        """
        core = self._read("core", index)
        sound = self._read("audio", index) if audio and self.index["n_audio"][index] else b""
        try:
            return records.decode(core, sound)
        except RecordError as error:
            raise RecordError("corrupt_record", f"{self._place('core', index)}: {error}") from error

    def locate(self, index: int) -> tuple[int, int]:
        """Shard number and row within the shard."""
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Records up to each shard's last."""
        return list(itertools.accumulate(shard["records"] for shard in self.manifest["shards"]))

    def rejects(self) -> Iterator[dict]:
        """The clips that were rejected: id, reason, detail. Raises CacheError: their list is missing or damaged."""
        try:
            with open(buckets.bring(buckets.inside(self.where, REJECTS)), "rb") as file:
                for number, line in enumerate(file, 1):
                    reject = strict.loads(line)
                    if not _is_reject(reject):
                        raise ValueError(f"line {number} is no reject with id, reason and detail")
                    yield reject
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{self.directory / REJECTS} cannot be read ({error}); run cache_tasks again"
            ) from error

    def check_files(self, contents: bool = False) -> None:
        """Checks every shard's presence and size, and the hashes of the index, which every plan is made of.

        Args:
            contents: compares the hashes of the shards and of an index beyond `_HASHED_INDEX` bytes too.

        Raises:
            CacheError: a file is missing or differs.
        """
        for column, expected in self.manifest["index"].items():
            try:
                path = self._column(column)
                length = path.stat().st_size
            except FileNotFoundError:
                path = index_path(self.directory, column)
                raise CacheError(f"{path} is missing; run cache_tasks again") from None
            if not contents and length > _HASHED_INDEX:
                continue
            if files.sha256(path) != expected["sha256"]:
                raise CacheError(
                    f"{path} is damaged: its hash differs; delete {self.directory} and cache again"
                )
        for number, shard in enumerate(self.manifest["shards"]):
            for family, expected in shard["files"].items():
                self._check_shard(family, number, expected, contents)

    def _check_shard(self, family: str, number: int, expected: dict, contents: bool) -> None:
        path = buckets.inside(self.where, self._path(family, number).name)
        try:
            found = buckets.size(path)
        except FileNotFoundError:
            raise CacheError(f"{path} is missing; run cache_tasks again") from None
        if found != expected["bytes"]:
            raise CacheError(
                f"{path} has {found} bytes, the manifest says {expected['bytes']}; "
                f"delete {self.where} and run cache_tasks again"
            )
        if contents and files.sha256(buckets.bring(path, **expected)) != expected["sha256"]:
            raise CacheError(f"{path} is damaged: its hash differs; delete {self.where} and cache again")

    def _column(self, name: str) -> Path:
        """A column of the index on this machine. Raises FileNotFoundError, or BucketError."""
        path = buckets.inside(self.where, index_path(self.directory, name).name)
        return (
            buckets.bring(path, sha256=self.manifest["index"][name]["sha256"])
            if self._is_away
            else Path(path)
        )

    @property
    def _is_away(self) -> bool:
        return buckets.is_bucket(self.where)

    def _read(self, family: str, index: int) -> bytes:
        shard, row = self.locate(index)
        try:
            if self._is_away:
                self._bring_shard(family, shard)
            source, first = self._source(family)
            return source[first[shard] + row]
        except (ValueError, RuntimeError, LookupError) as error:
            raise RecordError("corrupt_record", f"{self._place(family, index)}: {error}") from error

    def _bring_shard(self, family: str, shard: int) -> None:
        """Has a shard on this machine, once for all threads. Raises BucketError."""
        with self._lock:
            if (family, shard) not in self._brought:
                path = buckets.inside(self.where, self._path(family, shard).name)
                buckets.bring(path, **self.manifest["shards"][shard]["files"][family])
                self._brought.add((family, shard))

    @functools.cached_property
    def _brought(self) -> set[tuple[str, int]]:
        return set()

    def _place(self, family: str, index: int) -> str:
        shard, row = self.locate(index)
        return f"{self._path(family, shard)} record {row}"

    def _path(self, family: str, shard: int) -> Path:
        return self.directory / shard_name(family, shard, len(self.manifest["shards"]))

    def _source(self, family: str) -> tuple[Any, dict[int, int]]:
        """Where to read a family, and where in there each shard that has it begins."""
        with self._lock:
            if family not in self._sources:
                self._sources[family] = self._open(family)
            return self._sources[family]

    def _open(self, family: str) -> tuple[Any, dict[int, int]]:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        shards, first, total = [], {}, 0
        for number, shard in enumerate(self.manifest["shards"]):
            if family in shard["files"]:
                shards.append(_WholeShard(str(self._path(family, number)), shard["records"]))
                first[number], total = total, total + shard["records"]
        return ArrayRecordDataSource(shards), first

    @functools.cached_property
    def _sources(self) -> dict[str, tuple[Any, dict[int, int]]]:
        return {}

    @functools.cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()


def _is_reject(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(k), str) for k in ("id", "reason", "detail"))


@dataclasses.dataclass(frozen=True)
class _WholeShard:
    """ArrayRecord's `FileInstruction`: a file whose records are counted, so that it is opened when one is wanted."""

    filename: str
    take: int
    skip: int = 0

    @property
    def examples_in_shard(self) -> int:
        return self.take
