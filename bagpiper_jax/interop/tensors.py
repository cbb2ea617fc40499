"""Files of named tensors: safetensors (one file, or a directory of shards) and PyTorch's .pt, read lazily."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from bagpiper_jax.interop.names import InterchangeError


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor on disk: its shape, and how to read it as a numpy array."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def open_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """Every tensor of a .safetensors file, of a directory of them, or of a .pt file (needs torch).

    Raises:
        InterchangeError: nothing there, another kind of file, a broken one, or a tensor in two shards.
    """
    path = Path(path)
    if path.is_dir():
        shards = sorted(path.glob("*.safetensors"))
        return _merge(path, [_open_safetensors(shard) for shard in shards])
    if not path.is_file():
        raise InterchangeError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _open_torch(path)
    raise InterchangeError(f"{path}: give a .safetensors file, a directory of them, or a .pt file")


def _merge(path: Path, shards: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for shard in shards:
        if twice := sorted(merged.keys() & shard.keys()):
            raise InterchangeError(f"{path}: {twice[0]} and {len(twice) - 1} more tensors are in two shards")
        merged |= shard
    if not merged:
        raise InterchangeError(f"{path} holds no .safetensors file")
    return merged


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)

        return read

    try:
        with safe_open(path, framework="numpy") as file:
            return {n: Tensor(tuple(file.get_slice(n).get_shape()), reader(n)) for n in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InterchangeError(f"{path} is no complete safetensors file: {error}") from error


def _open_torch(path: Path) -> dict[str, Tensor]:
    try:
        import torch
    except ImportError as error:
        raise InterchangeError(
            f"{path}: reading .pt needs torch (the interop extra), safetensors does not"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise InterchangeError(f"{path} is no complete PyTorch file of plain tensors: {error}") from error
    content = content.get("module", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise InterchangeError(f"{path} holds no state dict")
    return {name: Tensor(tuple(t.shape), lambda t=t: _numpy(torch, t)) for name, t in content.items()}


def _numpy(torch, tensor) -> np.ndarray:
    """Through int16 for bfloat16, which torch does not hand to numpy."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def write_tensors(path: str | os.PathLike, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes .safetensors, or .pt as ESPnet's `{"module": state_dict}`; whole or not at all.

    Raises:
        InterchangeError: `path` exists, or has another suffix.
    """
    path = Path(path)
    writers: Mapping[str, Callable] = {".safetensors": _write_safetensors, ".pt": _write_torch}
    if path.suffix not in writers:
        raise InterchangeError(f"{path}: the name must end in .safetensors or .pt")
    if path.exists():
        raise InterchangeError(f"{path} exists; remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    writers[path.suffix](temporary, dict(tensors))
    os.replace(temporary, path)


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def _write_torch(path: Path, tensors: dict[str, np.ndarray]) -> None:
    import torch

    def convert(x: np.ndarray):
        if x.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(x.copy())

    torch.save({"module": {name: convert(x) for name, x in tensors.items()}}, path)
