"""The code store: codec codes of a corpus, made once by `tokenize_audio`, read by clip id. numpy only.

<corpus>/codes/<fingerprint>/shard-00000-of-00004.npz     ids [n], offsets [n+1], codes uint16 [ΣN, S]
<corpus>/codes/<fingerprint>/rejects.jsonl                {"id", "reason", "detail"} per clip without codes
<corpus>/codes/<fingerprint>/manifest.json                written last: without it the store is unfinished
"""

import dataclasses
import itertools
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt16

from bagpiper_jax import files, strict, typed
from bagpiper_jax.errors import Explained

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"


_LONGEST_HEADER = 100 << 20  # bytes; what safetensors itself allows
_SHARD = re.compile(r"shard-\d{5,}-of-\d{5,}\.npz")
_AGAIN = "delete its folder and run tokenize_audio again"


class CodeStoreError(Explained, ValueError):
    """A code store that is missing, unfinished, damaged or another codec's; names the path and the remedy."""


@dataclasses.dataclass(frozen=True)
class CodeManifest:
    """What a finished code store says of itself.

    Attributes:
        fingerprint: of the codec that made the codes.
        clips: how many have codes.
        shards: name of a shard's file → its SHA-256.
        codebook_size, num_codebooks: of the codec.
        audio: digest of the audio that the codes were made of; "" where an older store does not tell.
    """

    fingerprint: str
    clips: int
    shards: dict[str, str]
    codebook_size: int
    num_codebooks: int
    audio: str = ""


def codec_fingerprint(path: str | os.PathLike) -> str:
    """The fingerprint in the header of a codec's safetensors file, read without loading any tensor."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            fingerprint = strict.loads(file.read(length))["__metadata__"]["fingerprint"]
        if not isinstance(fingerprint, str) or not re.fullmatch(r"[\w-]+", fingerprint):
            raise ValueError(f"fingerprint {str(fingerprint)[:80]!r}")
        return fingerprint
    except (OSError, struct.error, ValueError, LookupError, TypeError) as error:
        raise CodeStoreError(
            f"{path} is not a codec file of train_codec ({error!r}); copy it again, or name another (…codec=)"
        ) from error


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
    with files.whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read_shard(path: Path) -> tuple[list[str], Int64[np.ndarray, "n+1"], UInt16[np.ndarray, "N S"]]:
    """ids, offsets, codes of a shard. Raises CodeStoreError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as shard:
            ids, offsets, codes = shard["ids"], shard["offsets"], shard["codes"]
        _require_shard(ids, offsets, codes)
    except Exception as error:  # of damaged bytes zipfile, zlib and numpy raise errors of every sort
        raise CodeStoreError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it and run tokenize_audio again"
        ) from error
    return ids.tolist(), offsets, codes


def _require_shard(ids: np.ndarray, offsets: np.ndarray, codes: np.ndarray) -> None:
    """Raises ValueError: the arrays are not what `write_shard` writes."""
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise ValueError(f"ids are {ids.dtype} {list(ids.shape)}")
    if codes.ndim != 2 or codes.dtype != np.uint16:
        raise ValueError(f"codes are {codes.dtype} {list(codes.shape)}")
    if offsets.dtype != np.int64 or offsets.shape != (len(ids) + 1,):
        raise ValueError(f"offsets are {offsets.dtype} {list(offsets.shape)} for {len(ids)} clips")
    if offsets[0] != 0 or offsets[-1] != len(codes) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets from {offsets[0]} to {offsets[-1]} for {len(codes)} frames")


class CodeStore(Mapping):
    """Clip id → codes, uint16 [N, S].

    Attributes:
        directory: the store's.
        manifest: what it says of itself.
    """

    def __init__(
        self, directory: Path, manifest: CodeManifest, where: dict[str, tuple[np.ndarray, int, int]]
    ):
        self.directory, self.manifest = directory, manifest
        self._where = where

    @classmethod
    def open(cls, corpus: str | os.PathLike, fingerprint: str) -> "CodeStore":
        """Opens the codes that the codec `fingerprint` made of a corpus.

        Raises:
            CodeStoreError: there are none, they are another codec's, unfinished or damaged.
        """
        directory = store_directory(corpus, fingerprint)
        manifest = _open_manifest(directory, fingerprint)
        where = {}
        for name in manifest.shards:
            ids, offsets, codes = read_shard(directory / name)
            if codes.shape[1] != manifest.num_codebooks:
                raise CodeStoreError(
                    f"{directory / name} has {codes.shape[1]} streams, the manifest says {manifest.num_codebooks}; "
                    "delete it and run tokenize_audio again"
                )
            spans = zip(ids, itertools.pairwise(offsets.tolist()), strict=True)
            where |= {clip: (codes, start, stop) for clip, (start, stop) in spans}
        if len(where) != manifest.clips:
            raise CodeStoreError(
                f"{directory} holds {len(where)} clips, its manifest says {manifest.clips}; {_AGAIN}"
            )
        return cls(directory, manifest, where)

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
        for name, digest in self.manifest.shards.items():
            if files.sha256(self.directory / name) != digest:
                raise CodeStoreError(
                    f"{self.directory / name} differs from its checksum; run tokenize_audio again"
                )


def read_manifest(path: Path) -> CodeManifest:
    """A finished store's manifest. Raises CodeStoreError: it is damaged."""
    try:
        value = strict.loads(path.read_bytes())
        codec = value["config"]
        manifest = CodeManifest(
            value["fingerprint"], value["clips"], value["shards"], codec["codebook_size"],
            codec["num_codebooks"], value.get("audio", ""),
        )  # fmt: skip
        if fault := typed.mistyped(manifest) or _fault(manifest):
            raise ValueError(fault)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CodeStoreError(f"{path} is damaged ({reason}); {_AGAIN}") from error
    return manifest


def _fault(manifest: CodeManifest) -> str:
    if not all(
        _SHARD.fullmatch(name) and isinstance(digest, str) for name, digest in manifest.shards.items()
    ):
        return "shards must be names of shards with their checksums"
    if min(manifest.clips, manifest.codebook_size - 1, manifest.num_codebooks - 1) < 0:
        return "counts must be positive"
    return ""


def _open_manifest(directory: Path, fingerprint: str) -> CodeManifest:
    path = directory / MANIFEST
    if path.exists():
        manifest = read_manifest(path)
        if manifest.fingerprint != fingerprint:
            raise CodeStoreError(
                f"{path} was made by codec {manifest.fingerprint}, not {fingerprint}; {_AGAIN}"
            )
        return manifest
    if directory.exists():
        raise CodeStoreError(f"{directory} is unfinished; run tokenize_audio again, it continues")
    others = sorted(other.name for other in directory.parent.glob("*") if (other / MANIFEST).exists())
    found = f"it has codes of codec {', '.join(others)}" if others else "it has no codes"
    raise CodeStoreError(
        f"{directory.parent.parent} has no codes of codec {fingerprint}: {found}; "
        "run tokenize_audio with this codec"
    )
