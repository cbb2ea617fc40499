"""The whole state of a small training run in one safetensors file, replaced in one stroke."""

import dataclasses
import json
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from bagpiper_jax import digests
from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)

FILE = "checkpoint.safetensors"


class SnapshotError(Explained, ValueError):
    """A snapshot that this run cannot continue from; names the file and the remedy."""


def identity(config: Any, changeable: Collection[str]) -> dict:
    """What a snapshot must agree on for a run to continue from it: all settings but the changeable ones."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in changeable}


def save(directory: Path, state: PyTree, identity: dict) -> Path:
    """Writes the whole state. A process killed at any moment leaves the old snapshot or the new one.

    Raises:
        SnapshotError: the disk refuses it.
    """
    from safetensors.numpy import save

    path = directory / FILE
    temporary = path.with_suffix(".tmp")
    tensors = {name: np.asarray(leaf) for name, leaf in _named(state)}
    run = _text(identity)
    try:
        with open(temporary, "wb") as file:
            file.write(save(tensors, {"run": run, "digest": _digest(run, tensors)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # the next try needs the space
        raise SnapshotError(
            f"cannot write {path}: {error}. Free space or permissions there, and run the same command again; it "
            "continues from the last snapshot"
        ) from error
    return path


def restore(directory: Path, template: PyTree, identity: dict) -> PyTree:
    """The state of `directory`, or `template` if nothing has been saved there.

    Raises:
        SnapshotError: the file is damaged, or was written by a run with other settings.
    """
    from safetensors import SafetensorError, safe_open

    path = directory / FILE
    if not path.exists():
        return template
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        run, digest = header["run"], header.get("digest")
        if digest is None:
            _log.warning(
                "%s has no digest: it is of a version that wrote none, so damage would go unnoticed", path
            )
        elif digest != _digest(run, tensors):
            raise ValueError("it has changed since it was written")
        found = dict(json.loads(run))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{path} is damaged ({error}); delete it to start again") from error
    if run != _text(identity):
        raise SnapshotError(
            f"{path} belongs to a run with other settings ({_difference(found, identity)}); "
            "restore them, or choose another output"
        )
    names = [name for name, _ in _named(template)]
    return jax.tree.unflatten(jax.tree.structure(template), [tensors[name] for name in names])


def _named(state: PyTree) -> list[tuple[str, jax.Array]]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _digest(run: str, tensors: dict[str, np.ndarray]) -> str:
    """Of everything that a snapshot holds, so that a change of its header is noticed too."""

    def parts() -> Iterator[bytes]:
        yield run.encode()
        for name in sorted(tensors):
            tensor = np.ascontiguousarray(tensors[name])
            yield f"{name}{tensor.dtype}{tensors[name].shape}".encode()
            yield tensor.reshape(-1).view(np.uint8).data

    return digests.of_parts(parts())


def _text(identity: dict) -> str:
    return json.dumps(identity, sort_keys=True)


def _difference(found: dict, expected: dict) -> str:
    expected = json.loads(_text(expected))
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    return ", ".join(f"{name}: {found.get(name)} there, {expected.get(name)} here" for name in names)
