"""Named tensors of a checkpoint file, whatever its format, known without reading them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from bagpiper_jax import strict
from bagpiper_jax.interop.faults import InterchangeError, shown

INDEX = "model.safetensors.index.json"
"""The file that says in which shard of a directory each tensor is."""

Plan = Mapping[str, tuple[tuple[int, ...], np.dtype]]
"""Name → shape and dtype of the tensors that will be written, in order."""

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


def read_object(path: Path, what: str) -> dict:
    """The JSON object in a small file. Raises InterchangeError that says that it is no `what`."""
    try:
        content = strict.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InterchangeError(f"{path} is no {what}: {error}") from error
    if not isinstance(content, dict):
        raise InterchangeError(f"{path} is no {what}: it holds {shown(content)}, not an object")
    return content


def require_floats(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises InterchangeError naming every tensor that is no float32, bfloat16 or float16."""
    others = [f"{name} is {t.dtype}" for name, t in tensors.items() if t.dtype not in FLOATS.values()]
    if others:
        known = ", ".join(FLOATS)
        raise InterchangeError(
            f"{where}: weights must be {known}; convert these first:\n  " + "\n  ".join(others)
        )
