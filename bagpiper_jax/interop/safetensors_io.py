"""safetensors files read and written in parts, so that no tensor has to be in memory whole.

The format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes, one after the other.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from bagpiper_jax.interop.names import InterchangeError
from bagpiper_jax.interop.tensors import INDEX, Tensor

SHARD_BYTES = 5_000_000_000
_LONGEST_HEADER = 100_000_000

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

Plan = Mapping[str, tuple[tuple[int, ...], np.dtype]]
"""Name → shape and dtype of the tensors that will be written, in order."""


def open_file(path: Path) -> dict[str, Tensor]:
    """Its tensors by name. Raises InterchangeError for a file that is broken, torn or none of this format."""
    size = path.stat().st_size
    try:
        header, start = _read_header(path, size)
        tensors = {
            name: _tensor(path, name, entry, start)
            for name, entry in header.items()
            if name != "__metadata__"
        }
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if start + max(ends, default=0) != size:
            raise ValueError(f"it has {size} bytes, its header tells of {start + max(ends, default=0)}")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InterchangeError(
            f"{path} is no complete safetensors file: {error}; fetch or export it again"
        ) from error
    return tensors


def _read_header(path: Path, size: int) -> tuple[dict, int]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        return json.loads(file.read(length)), 8 + length


def _tensor(path: Path, name: str, entry: dict, start: int) -> Tensor:
    shape, (begin, end) = tuple(map(int, entry["shape"])), entry["data_offsets"]
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name} has the unknown type {entry['dtype']}")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if end - begin != math.prod(shape) * dtype.itemsize or begin < 0:
        raise ValueError(f"{name} {list(shape)} of {entry['dtype']} does not take {end - begin} bytes")
    row = math.prod(shape[1:]) * dtype.itemsize

    def rows(first: int, last: int) -> np.ndarray:
        data = np.fromfile(path, np.uint8, (last - first) * row, offset=start + begin + first * row)
        if data.size != (last - first) * row:
            raise InterchangeError(f"{path} became shorter while it was read")
        return data.view(dtype).reshape(last - first, *shape[1:])

    return Tensor(shape, dtype, rows)


class File:
    """Writes one file. Parts of a tensor come in order, tensors in any."""

    def __init__(self, path: str | os.PathLike, plan: Plan):
        header, end = {"__metadata__": {"format": "pt"}}, 0
        self._next, self._ends = {}, {}
        for name, (shape, dtype) in plan.items():
            begin, end = end, end + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
            self._next[name], self._ends[name] = begin, end
        text = json.dumps(header, separators=(",", ":")).encode()
        text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at multiples of 8
        self._start = 8 + len(text)
        self._file = open(path, "wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, part: np.ndarray) -> None:
        data = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        if self._next[name] + data.size > self._ends[name]:
            raise ValueError(f"{name}: more bytes than its shape has")
        self._file.seek(self._start + self._next[name])
        self._file.write(data)
        self._next[name] += data.size

    def close(self) -> None:
        """Raises ValueError if a tensor is not complete."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._next != self._ends:
            torn = [name for name in self._next if self._next[name] != self._ends[name]]
            raise ValueError(f"not written whole: {', '.join(torn)}")


class Shards:
    """Writes a directory of shards with their index, as transformers and vLLM read it."""

    def __init__(self, directory: Path, plan: Plan, limit: int = SHARD_BYTES):
        parts = _parts(plan, limit)
        names = [f"model-{i:05d}-of-{len(parts):05d}.safetensors" for i in range(1, len(parts) + 1)]
        self._files = [File(directory / name, part) for name, part in zip(names, parts, strict=True)]
        self._of = {tensor: file for file, part in zip(self._files, parts, strict=True) for tensor in part}
        total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in plan.values())
        placed = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        content = {"metadata": {"total_size": total}, "weight_map": placed}
        (directory / INDEX).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def write(self, name: str, part: np.ndarray) -> None:
        self._of[name].write(name, part)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _parts(plan: Plan, limit: int) -> list[Plan]:
    """Consecutive tensors, together at most `limit` bytes; a larger one is alone."""
    parts, size = [{}], 0
    for name, (shape, dtype) in plan.items():
        added = math.prod(shape) * dtype.itemsize
        if parts[-1] and size + added > limit:
            parts.append({})
            size = 0
        parts[-1][name] = (shape, dtype)
        size += added
    return parts
