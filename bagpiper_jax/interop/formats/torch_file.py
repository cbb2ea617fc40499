"""PyTorch's .pt files, ESPnet's native form: `{"module": state_dict}` or the state dict itself.

See docs/reference.md, Native checkpoint.

torch itself unpickles and pickles, never anything but plain tensors; their bytes pass through in parts.
"""

import os
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats.tensors import Plan, Tensor

_MAPPED_BYTES = 1 << 28
_ALIGNMENT = 64


def open_file(path: Path) -> dict[str, Tensor]:
    """Its tensors by name.

    Raises:
        InterchangeError: torch is missing, or the file is torn, older than torch 1.6, or holds more than tensors.
    """
    mapped = _MappedFile(path)
    return {
        name: Tensor(tuple(t.shape), _dtype(t), mapped.reader(name), path)
        for name, t in mapped.tensors().items()
    }


def verify(path: Path) -> bool:
    """Compares every record with its CRC-32. False if the file was written without them, which torch can.

    Raises:
        InterchangeError: a record that is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(record.CRC for record in archive.infolist()):
                return False
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, zlib.error, EOFError) as error:
        raise InterchangeError(f"{path} is no complete PyTorch file: {error}; fetch it again") from error
    if damaged:
        raise InterchangeError(f"{path}: the record {shown(damaged)} differs from its CRC-32; fetch it again")
    return True


class _MappedFile:
    """The file mapped into memory, anew whenever 256 MiB of it have been touched: a mapping keeps its pages."""

    def __init__(self, path: Path):
        self._path, self._touched = path, 0
        self._tensors: dict | None = None
        self._lock = threading.Lock()

    def tensors(self) -> dict:
        if self._tensors is None or self._touched > _MAPPED_BYTES:
            self._tensors, self._touched = None, 0  # the old mapping goes before the new one comes
            self._tensors = _load(self._path)
        return self._tensors

    def reader(self, name: str) -> Callable[[int, int], np.ndarray]:
        def rows(start: int, stop: int) -> np.ndarray:
            with self._lock:
                tensor = self.tensors()[name]
                part = _numpy(tensor[start:stop] if tensor.ndim else tensor)
                self._touched += part.nbytes
                return part.copy()

        return rows


def _load(path: Path) -> dict:
    torch = _torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise InterchangeError(f"{path} is no complete PyTorch file of plain tensors: {error}") from error
    content = content.get("module", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise InterchangeError(f"{path} holds no state dict, but {shown(type(content).__name__)}")
    faults = [fault for name, value in content.items() if (fault := _fault(name, value, torch))]
    if faults:
        raise InterchangeError(
            f"{path} holds no state dict, neither plain tensors by name nor them under 'module':\n  "
            + "\n  ".join(faults)
        )
    return {name: tensor.detach() for name, tensor in content.items()}


def _fault(name: Any, value: Any, torch) -> str | None:
    """Why an entry of a state dict cannot be read as numbers by name, None if it can."""
    if not isinstance(name, str):
        return f"the name {shown(name)} is {type(name).__name__}, no text"
    if not isinstance(value, torch.Tensor):
        return f"{shown(name)} is {type(value).__name__}, no tensor"
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        return f"{shown(name)} is a sparse, quantized or nested tensor, no plain one"
    if value.device.type != "cpu":
        return f"{shown(name)} has no values ({value.device.type})"
    return None


def _torch(path):
    try:
        import torch
    except ImportError as error:
        raise InterchangeError(
            f"{path}: .pt needs torch (the interop extra), safetensors does not"
        ) from error
    return torch


def _dtype(tensor) -> np.dtype:
    name = str(tensor.dtype).removeprefix("torch.")
    return np.dtype(getattr(ml_dtypes, name, None) or getattr(np, name, np.void))


def _numpy(tensor) -> np.ndarray:
    """Through int16 for bfloat16, which torch does not hand to numpy."""
    if _dtype(tensor) == ml_dtypes.bfloat16:
        import torch

        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class File:
    """Writes `{"module": state_dict}`. Parts of a tensor come in order, and so do all parts of one tensor.

    torch writes a file whose storages are left out; its small records and the tensors' bytes, as they come, make
    the real one. Raises InterchangeError without torch.
    """

    def __init__(self, path: str | os.PathLike, plan: Plan):
        self._small, self._root, self._sizes = _skeleton(Path(path), plan)
        self._record = {name: f"{self._root}/data/{i}" for i, name in enumerate(plan)}
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)
        for name, data in self._small.items():
            with self._entry(name, len(data)) as file:
                file.write(data)
        self._current, self._left = "", 0
        self._file: IO[bytes] | None = None

    def write(self, name: str, part: np.ndarray) -> None:
        if name != self._current:
            self._finish()
            self._current, self._left = name, self._sizes.pop(name)
            self._file = self._entry(self._record[name], self._left)
        assert self._file is not None
        self._left -= part.nbytes
        self._file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)

    def close(self) -> None:
        """Raises ValueError if a tensor is not complete."""
        self._finish()
        self._zip.close()
        if self._sizes:
            raise ValueError(f"not written: {', '.join(self._sizes)}")

    def _finish(self) -> None:
        if self._left:
            raise ValueError(f"{self._current}: {self._left} bytes too few")
        if self._file is not None:
            self._file.close()

    def _entry(self, name: str, size: int):
        """An uncompressed record whose bytes begin at a multiple of 64, as torch's do, so that it can be mapped."""
        info = zipfile.ZipInfo(name)
        large = size >= zipfile.ZIP64_LIMIT
        start = self._zip.fp.tell() + 30 + len(name.encode()) + 20 * large + 4
        padding = -start % _ALIGNMENT
        info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
        return self._zip.open(info, "w", force_zip64=large)


def _skeleton(path: Path, plan: Plan) -> tuple[dict[str, bytes], str, dict[str, int]]:
    """The records of a .pt without its storages, its root folder, and the bytes of each tensor."""
    torch = _torch(path)
    # Memory that nobody touches is never taken.
    empty = {
        name: torch.empty(shape, dtype=getattr(torch, str(dtype))) for name, (shape, dtype) in plan.items()
    }
    sizes = {name: tensor.nbytes for name, tensor in empty.items()}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        hollow = Path(folder) / "module.pt"
        with torch.serialization.skip_data():
            torch.save({"module": empty}, hollow)
        with zipfile.ZipFile(hollow) as archive:
            names = [n for n in archive.namelist() if not n.split("/", 1)[1].startswith("data/")]
            root = names[0].split("/", 1)[0]
            return {name: archive.read(name) for name in names}, root, sizes
