"""Reading the cache of one task and split: ArrayRecord shards, an index, a manifest. No TensorFlow.

<cache_dir>/<task>/<split>/<fingerprint>/
    core.array_record-00000-of-00002     messages, text ids, codes    (data.records.encode)
    audio.array_record-00000-of-00002    FLAC of the same records; absent if no record has audio
    index.npz  rejects.jsonl  manifest.json  COMPLETE
"""

import dataclasses
import functools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.data import records
from bagpiper_jax.data.records import Record, RecordError

FORMAT = 1
INDEX, REJECTS, MANIFEST, COMPLETE = "index.npz", "rejects.jsonl", "manifest.json", "COMPLETE"
INDEX_COLUMNS = ("length", "chunks", "direction", "n_text", "n_frames", "n_audio")


class CacheError(ValueError):
    """A cache that cannot be served; names the file and the remedy."""


def shard_name(family: str, shard: int, shards: int) -> str:
    return f"{family}.array_record-{shard:05d}-of-{shards:05d}"


@dataclasses.dataclass(frozen=True)
class TaskCache:
    """One cached task and split, opened for reading by many threads."""

    directory: Path

    def __post_init__(self):
        object.__setattr__(self, "directory", Path(self.directory))
        if not (self.directory / COMPLETE).exists():
            raise CacheError(f"{self.directory} is no finished cache; run cache_tasks to make or finish it")

    @functools.cached_property
    def manifest(self) -> dict:
        return json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))

    @functools.cached_property
    def manifest_sha256(self) -> str:
        return files.sha256(self.directory / MANIFEST)

    @functools.cached_property
    def index(self) -> dict[str, np.ndarray]:
        """Columns of `INDEX_COLUMNS`, each int32 [records]."""
        path = self.directory / INDEX
        with np.load(path, allow_pickle=False) as columns:
            index = {name: columns[name] for name in INDEX_COLUMNS}
        wrong = {name: len(c) for name, c in index.items() if len(c) != len(self)}
        if wrong:
            raise CacheError(
                f"{path} has columns of {wrong} rows, the manifest says {len(self)}; cache again"
            )
        return index

    def __len__(self) -> int:
        return self.manifest["records"]

    def read(self, index: int) -> Record:
        """Reads one record. Raises RecordError: its bytes are damaged; the file is named."""
        shard, row = self.locate(index)
        try:
            core = self._read("core", index)
            audio = self._read("audio", index) if "audio" in self.manifest["families"] else b""
            return records.decode(core, audio)
        except (RecordError, ValueError, RuntimeError, IndexError) as error:
            place = self.directory / shard_name("core", shard, len(self.manifest["shards"]))
            raise RecordError("corrupt_record", f"{place} record {row}: {error}") from error

    def locate(self, index: int) -> tuple[int, int]:
        """Shard number and row within the shard."""
        ends = np.cumsum([shard["records"] for shard in self.manifest["shards"]])
        shard = int(np.searchsorted(ends, index, side="right"))
        return shard, index - (int(ends[shard - 1]) if shard else 0)

    def rejects(self) -> Iterator[dict]:
        with open(self.directory / REJECTS, encoding="utf-8") as file:
            yield from map(json.loads, file)

    def check_files(self, contents: bool = False) -> None:
        """Checks every shard's presence and size, and its hash if `contents`. Raises CacheError."""
        for number, shard in enumerate(self.manifest["shards"]):
            for family, expected in shard["files"].items():
                path = self.directory / shard_name(family, number, len(self.manifest["shards"]))
                if not path.exists():
                    raise CacheError(f"{path} is missing; run cache_tasks again")
                if path.stat().st_size != expected["bytes"]:
                    raise CacheError(
                        f"{path} has {path.stat().st_size} bytes, the manifest says {expected['bytes']}; "
                        f"delete {self.directory} and run cache_tasks again"
                    )
                if contents and files.sha256(path) != expected["sha256"]:
                    raise CacheError(
                        f"{path} is damaged: its hash differs; delete {self.directory} and cache again"
                    )

    def _read(self, family: str, index: int) -> bytes:
        return self._source(family)[index]

    def _source(self, family: str):
        with self._lock:
            if family not in self._sources:
                from array_record.python.array_record_data_source import ArrayRecordDataSource

                shards = len(self.manifest["shards"])
                paths = [str(self.directory / shard_name(family, s, shards)) for s in range(shards)]
                self._sources[family] = ArrayRecordDataSource(paths)
            return self._sources[family]

    @functools.cached_property
    def _sources(self) -> dict:
        return {}

    @functools.cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()
