"""Our parameters as export reads them: those of a checkpoint in parts, those of a codec, which is small, whole."""

import dataclasses
import os
from pathlib import Path
from typing import Protocol

import numpy as np

from bagpiper_jax.interop import store
from bagpiper_jax.interop.names import Shapes
from bagpiper_jax.interop.tensors import open_tensors
from bagpiper_jax.models.codec.storage import load_codec
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.training.checkpoints import find_checkpoint


class Parameter(Protocol):
    """One parameter: `read` gives [start, stop) of its leading axis, `bands` the ranges to read it in."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Whole:
    """A parameter in memory. `dtype` is what the file has, which its values fit without loss."""

    values: np.ndarray
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]:
        return [(0, len(self.values))]

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.values[start:stop].astype(self.dtype)


def open_model(checkpoint: str | os.PathLike, shapes: Shapes) -> dict[str, Parameter]:
    """Parameters of a run, one of its checkpoints, or an import; nothing is read yet.

    Raises:
        CheckpointError, InterchangeError: there is none, or one of other names or shapes.
    """
    return dict(store.open_parameters(Path(find_checkpoint(checkpoint)) / "parameters", shapes))


def open_codec(path: str | os.PathLike) -> tuple[dict[str, Parameter], CodecConfig]:
    """Parameters and sizes of a codec file. Raises CodecFileError if it is missing or damaged."""
    values, config = load_codec(path)
    stored = {name: tensor.dtype for name, tensor in open_tensors(path).items()}
    return {name: Whole(x, stored.get(name, x.dtype)) for name, x in values.items()}, config
