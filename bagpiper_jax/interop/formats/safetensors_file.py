"""safetensors files read and written in parts, so that no tensor has to be in memory whole.

The format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes, one after the other.
"""

import json
import math
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bagpiper_jax import strict
from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats.tensors import INDEX, Plan, Tensor

SHARD_BYTES = 5_000_000_000
_LONGEST_HEADER = 100_000_000
_MOST_AXES = 32

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def open_file(path: Path) -> dict[str, Tensor]:
    """Its tensors by name. Raises InterchangeError for a file that is broken, torn or none of this format."""
    try:
        header, start, size = _read_header(path)
        tensors, ends = {}, {}
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name], ends[name] = _tensor(path, name, entry, start)
        _require_tiling(ends, size - start)
    except (ValueError, OSError) as error:
        raise InterchangeError(
            f"{path} is no complete safetensors file: {error}; fetch or export it again"
        ) from error
    return tensors


def metadata(path: Path) -> dict[str, str]:
    """The texts that a file holds beside its tensors. Raises InterchangeError for a file that is broken."""
    try:
        return _read_header(path)[0].get("__metadata__") or {}
    except (ValueError, OSError) as error:
        raise InterchangeError(f"{path} is no complete safetensors file: {error}; fetch it again") from error


def _read_header(path: Path) -> tuple[dict, int, int]:
    """The header, where the tensors' bytes begin, and the size of the file. Raises ValueError, OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = strict.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"its header is {shown(header)}, not an object of tensors by name")
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"__metadata__ is {shown(metadata)}, not an object of texts")
    return header, 8 + length, size


def _tensor(path: Path, name: str, entry: Any, start: int) -> tuple[Tensor, tuple[int, int]]:
    """A tensor, and the range of its bytes behind the header. Raises ValueError that names it and what is wrong."""
    shape, (begin, end), kind = _described(shown(name), entry)
    dtype = np.dtype(_DTYPES[kind])
    row = math.prod(shape[1:]) * dtype.itemsize

    def rows(first: int, last: int) -> np.ndarray:
        data = np.fromfile(path, np.uint8, (last - first) * row, offset=start + begin + first * row)
        if data.size != (last - first) * row:
            raise InterchangeError(f"{path} became shorter while it was read")
        return data.view(dtype).reshape(last - first, *shape[1:])

    return Tensor(shape, dtype, rows, path), (begin, end)


def _described(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int], str]:
    """Shape, range of bytes and type of an entry of the header."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is {shown(entry)}, not an object with dtype, shape and data_offsets")
    shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{name} has the unknown dtype {shown(kind)}, known are {', '.join(_DTYPES)}")
    if not _are_counts(shape) or len(shape) > _MOST_AXES:
        raise ValueError(
            f"{name} has the shape {shown(shape)}, not a list of at most {_MOST_AXES} whole numbers"
        )
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} has data_offsets {shown(offsets)}, not [begin, end] in whole bytes")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
        raise ValueError(f"{name} {shape} of {kind} does not take the bytes {begin} to {end}")
    return tuple(shape), (begin, end), kind


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in value)


def _require_tiling(ranges: dict[str, tuple[int, int]], size: int) -> None:
    """Raises ValueError unless the tensors' bytes lie one after the other and fill the file."""
    place = 0
    for name, (begin, end) in sorted(ranges.items(), key=lambda item: item[1]):
        if begin != place:
            fault = "overlaps the tensor before it" if begin < place else "leaves a gap before it"
            raise ValueError(f"{shown(name)} begins at byte {begin}, not {place}: it {fault}")
        place = end
    if place != size:
        raise ValueError(f"it has {size} bytes of tensors, its header tells of {place}")


class File:
    """Writes one file. Parts of a tensor come in order, tensors in any."""

    def __init__(
        self, path: str | os.PathLike, plan: Plan, about: Mapping[str, str] = types.MappingProxyType({})
    ):
        """`about` stands beside the format in the file's metadata."""
        header, end = {"__metadata__": {"format": "pt", **about}}, 0
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


def _parts(plan: Plan, limit: int) -> Sequence[Plan]:
    """Consecutive tensors, together at most `limit` bytes; a larger one is alone."""
    parts: list[dict] = [{}]
    size = 0
    for name, (shape, dtype) in plan.items():
        added = math.prod(shape) * dtype.itemsize
        if parts[-1] and size + added > limit:
            parts.append({})
            size = 0
        parts[-1][name] = (shape, dtype)
        size += added
    return parts
