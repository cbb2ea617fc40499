"""The code store: codec codes of a corpus, made once by `tokenize_audio`, read by clip id. numpy only.

<corpus>/codes/<fingerprint>/shard-00000-of-00004.npz     ids [n], offsets [n+1], codes uint16 [ΣN, S]
<corpus>/codes/<fingerprint>/rejects.jsonl                {"id", "reason", "detail"} per clip without codes
<corpus>/codes/<fingerprint>/manifest.json                written last: without it the store is unfinished
"""

import json
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from bagpiper_jax import files
from bagpiper_jax.errors import Explained

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"


class CodeStoreError(Explained, ValueError):
    """A code store that is missing, unfinished, damaged or another codec's; names the path and the remedy."""


def codec_fingerprint(path: str | os.PathLike) -> str:
    """The fingerprint in the header of a codec's safetensors file, read without loading any tensor."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return json.loads(file.read(length))["__metadata__"]["fingerprint"]
    except (OSError, struct.error, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise CodeStoreError(f"{path} is not a codec file of train_codec ({error!r})") from error


def store_directory(corpus: str | os.PathLike, fingerprint: str) -> Path:
    return Path(corpus) / "codes" / fingerprint


def shard_name(index: int, count: int) -> str:
    return f"shard-{index:05d}-of-{count:05d}.npz"


def write_shard(
    path: Path, ids: Sequence[str], codes: Sequence[UInt16[np.ndarray, "N S"]], num_streams: int
) -> None:
    """Writes one shard atomically; an empty shard is valid."""
    lengths = [len(each) for each in codes]
    arrays = {
        "ids": np.array(ids, dtype=np.str_),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "codes": np.concatenate([np.zeros((0, num_streams), np.uint16), *codes]).astype(np.uint16),
    }
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_shard(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """ids, offsets, codes of a shard. Raises CodeStoreError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as shard:
            return [str(clip) for clip in shard["ids"]], shard["offsets"], shard["codes"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CodeStoreError(
            f"{path} is damaged ({error}); delete it and run tokenize_audio again"
        ) from error


class CodeStore(Mapping):
    """Clip id → codes, uint16 [N, S]."""

    def __init__(self, manifest: dict, where: dict[str, tuple[np.ndarray, int, int]]):
        self.manifest = manifest
        self._where = where

    @classmethod
    def open(cls, corpus: str | os.PathLike, fingerprint: str) -> "CodeStore":
        """Opens the codes that the codec `fingerprint` made of a corpus.

        Raises:
            CodeStoreError: there are none, they are another codec's, unfinished or damaged.
        """
        directory = store_directory(corpus, fingerprint)
        manifest = _read_manifest(directory, fingerprint)
        where = {}
        for name in manifest["shards"]:
            ids, offsets, codes = read_shard(directory / name)
            spans = zip(ids, offsets[:-1], offsets[1:], strict=True)
            where |= {clip: (codes, int(start), int(stop)) for clip, start, stop in spans}
        if len(where) != manifest["clips"]:
            raise CodeStoreError(
                f"{directory} holds {len(where)} clips, its manifest says {manifest['clips']}; "
                "delete it and run tokenize_audio again"
            )
        return cls(manifest, where)

    def __getitem__(self, clip_id: str) -> UInt16[np.ndarray, "N S"]:
        codes, start, stop = self._where[clip_id]
        return codes[start:stop]

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def ids(self) -> list[str]:
        return list(self._where)

    def verify(self) -> None:
        """Compares every shard with the checksum in the manifest. Raises CodeStoreError."""
        directory = Path(self.manifest["directory"])
        for name, digest in self.manifest["shards"].items():
            if files.sha256(directory / name) != digest:
                raise CodeStoreError(
                    f"{directory / name} differs from its checksum; run tokenize_audio again"
                )


def _read_manifest(directory: Path, fingerprint: str) -> dict:
    path = directory / MANIFEST
    if path.exists():
        try:
            manifest = json.loads(path.read_text(encoding="utf-8")) | {"directory": str(directory)}
        except json.JSONDecodeError as error:
            raise CodeStoreError(f"{path} is damaged ({error}); run tokenize_audio again") from error
        if manifest["fingerprint"] != fingerprint:
            raise CodeStoreError(f"{path} was made by codec {manifest['fingerprint']}, not {fingerprint}")
        return manifest
    if directory.exists():
        raise CodeStoreError(f"{directory} is unfinished; run tokenize_audio again, it continues")
    others = sorted(other.name for other in directory.parent.glob("*") if (other / MANIFEST).exists())
    found = f"it has codes of codec {', '.join(others)}" if others else "it has no codes"
    raise CodeStoreError(
        f"{directory.parent.parent} has no codes of codec {fingerprint}: {found}; "
        "run tokenize_audio with this codec"
    )
