"""An adapter's changes added to its base, on the host, in the parts in which an export reads it."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from bagpiper_jax.interop.stored_parameters import Parameter, open_model
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.fingerprints import Fingerprint
from bagpiper_jax.training.state import TABLES, model_shapes
from bagpiper_jax.training.weights import base_of, read_adapter, require_base


@dataclasses.dataclass(frozen=True)
class Merged:
    """A parameter with an adapter's change.

    Attributes:
        base: the parameter without it.
        a, b, scale: the change, as in `lora.Adapted`, on the host.
    """

    base: Parameter
    a: np.ndarray
    b: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> np.dtype:
        """As it is stored without the change, and so what "same" means; `read` gives float32."""
        return self.base.dtype

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]:
        return self.base.bands(rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) in float32, to be cast once."""
        values = self.base.read(start, stop).astype(np.float32)
        if self.scale.ndim:  # of stacked layers
            change = np.matmul(self.a[start:stop], self.b[start:stop]) * self.scale[start:stop, None, None]
        else:
            change = np.matmul(self.a, self.b)[start:stop] * self.scale
        return values + change.reshape(values.shape)


def open_merged(
    checkpoint: str | os.PathLike, config: BagpiperConfig, base: str = ""
) -> Mapping[str, Parameter | Merged]:
    """Parameters of a run, one of its checkpoints, or an import; an adapter's are those of its base, changed.

    Args:
        checkpoint: ours.
        config: the model's sizes.
        base: the checkpoint that an adapter changes, "" for the one that it names.

    Raises:
        CheckpointError, InterchangeError: there is none, it is damaged, or has other names or shapes.
        AdapterError: the adapter changes another base.
    """
    root = base_of(checkpoint, base)
    if root is None:
        return open_model(checkpoint, model_shapes(config))
    sizes = config.with_tables(load_model_config(root)[0].table_multiple)
    found = open_model(root, model_shapes(sizes))
    adapter = {path: np.asarray(x) for path, x in read_adapter(checkpoint, config, None).items()}
    require_base(adapter, stored_fingerprint(found, config), checkpoint, root)
    changes = {path: Merged(found[path], *lora.change_of(adapter, path)) for path in lora.targets_of(adapter)}
    return found | changes


def stored_fingerprint(parameters: dict[str, Parameter], config: BagpiperConfig) -> np.ndarray:
    """The fingerprint of a model's stored parameters, read once in parts."""
    found = Fingerprint()
    for path, parameter in parameters.items():
        rows = config.vocabulary.size if path in TABLES else None
        for start, stop in parameter.bands():
            values = parameter.read(start, stop)
            found.add(path, values if rows is None else values[: max(0, rows - start)])
    return found.value()
