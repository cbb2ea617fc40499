"""Checkpoint files opened without reading them: safetensors, shards of it, PyTorch's .pt."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats import safetensors_file, torch_file
from bagpiper_jax.interop.formats.tensors import INDEX, Tensor, read_object


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
    path = Path(path)
    if path.is_dir():
        found = _open_indexed(path, select) if (path / INDEX).is_file() else _open_shards(path)
    elif not path.is_file():
        raise InterchangeError(f"{path} does not exist")
    elif path.suffix == ".safetensors":
        found = safetensors_file.open_file(path)
    elif path.suffix in (".pt", ".pth", ".bin"):
        found = torch_file.open_file(path)
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
    index = path / INDEX
    placed = _placed(index)
    shards = sorted({placed[name] for name in select(placed)})
    absent = [shard for shard in shards if Path(shard).name != shard or not (path / shard).is_file()]
    if absent:
        raise InterchangeError(f"{path} lacks {len(absent)} shards that its index names: {', '.join(absent)}")
    opened = {shard: safetensors_file.open_file(path / shard) for shard in shards}
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


def _open_shards(path: Path) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for shard in sorted(path.glob("*.safetensors")):
        tensors = safetensors_file.open_file(shard)
        if twice := sorted(merged.keys() & tensors.keys()):
            raise InterchangeError(f"{path}: {twice[0]} and {len(twice) - 1} more tensors are in two shards")
        merged |= tensors
    if not merged:
        hint = "; name the .pt file itself" if list(path.glob("*.pt")) else ""
        raise InterchangeError(f"{path} holds no .safetensors file{hint}")
    return merged
