"""Our parameters as export reads them: those of a checkpoint in parts, those of a codec one by one."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from bagpiper_jax.interop.formats import orbax_store
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.models.codecs.xcodec import storage
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Shapes
from bagpiper_jax.training.checkpoints import find_parameters


class Parameter(Protocol):
    """One parameter: `read` gives [start, stop) of its leading axis, `bands` the ranges to read it in."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class OnDemand:
    """A small parameter that is read whole whenever it is asked for; numpy takes it for an array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]:
        return [(0, self.shape[0])]

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.rows(start, stop)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.rows(0, self.shape[0]), dtype)


def open_model(checkpoint: str | os.PathLike, shapes: Shapes) -> dict[str, Parameter]:
    """Parameters of a run, one of its checkpoints, or an import, compared with their digests.

    Raises:
        CheckpointError, InterchangeError: there is none, it is damaged, or has other names or shapes.
    """
    return dict(orbax_store.open_parameters(Path(find_parameters(checkpoint)), shapes))


def open_codec(path: str | os.PathLike) -> tuple[dict[str, Parameter], CodecConfig]:
    """Parameters and sizes of a codec file. Raises CodecFileError if it is missing or damaged."""
    opened = open_tensors(path) if Path(path).is_file() else {}
    tensors = {name: OnDemand(t.shape, t.dtype, t.rows) for name, t in opened.items()}
    parameters, config = storage.open_codec(path, tensors)
    return {name: _on_demand(x) for name, x in parameters.items()}, config


def _on_demand(x: OnDemand | np.ndarray) -> OnDemand:
    if isinstance(x, OnDemand):
        return x
    return OnDemand(x.shape, x.dtype, lambda start, stop: x[start:stop])
