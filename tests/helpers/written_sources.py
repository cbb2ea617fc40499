"""Tars and Parquet tables of short sounds, as sources for tasks."""

import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet

from bagpiper_jax import audio


def sound(seed: int, seconds: float = 0.5) -> np.ndarray:
    pcm = np.random.default_rng(seed).integers(-3000, 3000, round(16000 * seconds))
    return (pcm / 32768).astype(np.float32)


def flac(seed: int, seconds: float = 0.5) -> bytes:
    return audio.encode_flac(sound(seed, seconds))


def write_tar(path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def as_json(**fields) -> bytes:
    return json.dumps(fields).encode()


def write_table(path, rows: list[dict], **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
