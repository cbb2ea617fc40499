"""Checkpoint files of named tensors, opened without reading them: safetensors, shards of it, PyTorch's .pt."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from bagpiper_jax import strict
from bagpiper_jax.interop.tables.grammar import InterchangeError, shown

INDEX = "model.safetensors.index.json"

FLOATS = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
"""What weights may be stored as, on both sides."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor on disk.

    Attributes:
        shape, dtype: known without reading it.
        rows: reads [start, stop) of the first axis into a new array.
        file: where it is.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]
    file: Path | None = None

    def read(self) -> np.ndarray:
        """All of it."""
        return self.rows(0, self.shape[0] if self.shape else 1).reshape(self.shape)


Tensors = Mapping[str, Tensor]


def open_tensors(
    path: str | os.PathLike, select: Callable[[Iterable[str]], set[str]] = set
) -> dict[str, Tensor]:
    """The selected tensors of a .safetensors file, of a directory of shards, or of a .pt file (needs torch).

    Args:
        path: file or directory; shards that an index names, but that hold nothing selected, may be absent.
        select: picks among all names; by default all of them.

    Raises:
        InterchangeError: nothing there, another kind of file, a broken one, an index that does not fit its
            shards, or a tensor in two shards.
    """
    from bagpiper_jax.interop.formats import safetensors_file as safetensors_io
    from bagpiper_jax.interop.formats import torch_file as torch_io

    path = Path(path)
    if path.is_dir():
        found = _open_indexed(path, select) if (path / INDEX).is_file() else _open_shards(path)
    elif not path.is_file():
        raise InterchangeError(f"{path} does not exist")
    elif path.suffix == ".safetensors":
        found = safetensors_io.open_file(path)
    elif path.suffix in (".pt", ".pth", ".bin"):
        found = torch_io.open_file(path)
    else:
        raise InterchangeError(f"{path}: give a .safetensors file, a directory of them, or a .pt file")
    chosen = select(found)
    return {name: tensor for name, tensor in found.items() if name in chosen}


def source_files(path: str | os.PathLike) -> list[Path]:
    """The files that `open_tensors` may read."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    return sorted([*path.glob("*.safetensors"), *path.glob("*.json")])


def _open_indexed(path: Path, select: Callable[[Iterable[str]], set[str]]) -> dict[str, Tensor]:
    from bagpiper_jax.interop.formats import safetensors_file as safetensors_io

    index = path / INDEX
    placed = _placed(index)
    shards = sorted({placed[name] for name in select(placed)})
    absent = [shard for shard in shards if Path(shard).name != shard or not (path / shard).is_file()]
    if absent:
        raise InterchangeError(f"{path} lacks {len(absent)} shards that its index names: {', '.join(absent)}")
    opened = {shard: safetensors_io.open_file(path / shard) for shard in shards}
    faults = [
        f"{name} is not in {shard}, where the index places it"
        for name, shard in sorted(placed.items())
        if shard in opened and name not in opened[shard]
    ]
    faults += [
        f"{name} is in {shard}, but the index places it {'in ' + placed[name] if name in placed else 'nowhere'}"
        for shard in shards
        for name in sorted(opened[shard])
        if placed.get(name) != shard
    ]
    if faults:
        raise InterchangeError(f"{index} does not fit its shards:\n  " + "\n  ".join(faults))
    return {name: opened[shard][name] for name, shard in placed.items() if shard in opened}


def _placed(index: Path) -> dict[str, str]:
    """Name of each tensor → name of its shard."""
    content = read_object(index, "index of shards")
    placed = content.get("weight_map")
    if not isinstance(placed, dict):
        raise InterchangeError(
            f"{index} is no index of shards: its weight_map is {shown(placed)}, not an object"
        )
    for name, shard in placed.items():
        if not isinstance(shard, str):
            raise InterchangeError(
                f"{index} is no index of shards: it places {shown(name)} in {shown(shard)}, not in a file"
            )
    return placed


def read_object(path: Path, what: str) -> dict:
    """The JSON object in a small file. Raises InterchangeError that says that it is no `what`."""
    try:
        content = strict.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InterchangeError(f"{path} is no {what}: {error}") from error
    if not isinstance(content, dict):
        raise InterchangeError(f"{path} is no {what}: it holds {shown(content)}, not an object")
    return content


def _open_shards(path: Path) -> dict[str, Tensor]:
    from bagpiper_jax.interop.formats import safetensors_file as safetensors_io

    merged: dict[str, Tensor] = {}
    for shard in sorted(path.glob("*.safetensors")):
        tensors = safetensors_io.open_file(shard)
        if twice := sorted(merged.keys() & tensors.keys()):
            raise InterchangeError(f"{path}: {twice[0]} and {len(twice) - 1} more tensors are in two shards")
        merged |= tensors
    if not merged:
        hint = "; name the .pt file itself" if list(path.glob("*.pt")) else ""
        raise InterchangeError(f"{path} holds no .safetensors file{hint}")
    return merged


def require_floats(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises InterchangeError naming every tensor that is no float32, bfloat16 or float16."""
    others = [f"{name} is {t.dtype}" for name, t in tensors.items() if t.dtype not in FLOATS.values()]
    if others:
        known = ", ".join(FLOATS)
        raise InterchangeError(
            f"{where}: weights must be {known}; convert these first:\n  " + "\n  ".join(others)
        )
