"""A trained model, restored for generation: where it lies, and in which precision."""

import os
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.models import quantized
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.models.quantized import Quantized
from bagpiper_jax.training.checkpoints import restore_in_parts
from bagpiper_jax.training.state import initial_parameters, model_definition

_VECTORS = ("norm", "scale", "bias")
"""Ends of their names."""


def load_model(
    checkpoint: str | os.PathLike, config: BagpiperConfig, weights: WeightsConfig = WeightsConfig()
) -> Bagpiper:
    """The model of a training run, or of one of its checkpoints; each device reads its own part.

    A matrix that becomes int8 is read as it is stored, one after the other, so that a device needs no more than the
    result and the largest of them.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged, or of other sizes.
        MeshError: the mesh does not fit the devices.
    """
    mesh = None if weights.mesh is None else parallel.make_mesh(weights.mesh)
    kept = abstract_weights(config, weights, mesh)
    read = {name: _as_read(x) for name, x in kept.items()}
    found: dict[str, Any] = {}
    for part in restore_in_parts(checkpoint, read, _parts(kept)):
        for name, x in part.items():
            found[name] = quantized.quantize(x, quantized.INPUTS[name]) if _is_quantized(kept[name]) else x
    return nnx.merge(model_definition(config), unflatten(found))


def abstract_weights(config: BagpiperConfig, weights: WeightsConfig, mesh: Mesh | None) -> dict[str, Any]:
    """Shapes, dtypes and shardings by path: ShapeDtypeStructs, and `Quantized` ones where int8 is wanted.

    Args:
        mesh: the mesh that `weights` asks for; None puts all on the first device.
    """
    shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    if mesh is None:
        shardings = dict.fromkeys(shapes, jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
    else:
        shardings = parallel.parameter_sharding(mesh, shapes)
    return {name: _abstract(name, x, shardings[name], weights) for name, x in shapes.items()}


def _abstract(name: str, x: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding, weights: WeightsConfig):
    """Vectors stay as they are: norms compute in float32, and they take no room."""
    if weights.dtype == "int8" and name in quantized.INPUTS:
        stored = jax.ShapeDtypeStruct(x.shape, "float32", sharding=sharding)
        return quantized.abstract(stored, quantized.INPUTS[name])
    matrices = "bfloat16" if weights.dtype == "int8" else weights.dtype
    dtype = "float32" if name.endswith(_VECTORS) else matrices
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=sharding)


def _as_read(x):
    return (
        jax.ShapeDtypeStruct(x.values.shape, "float32", sharding=x.values.sharding) if _is_quantized(x) else x
    )


def _parts(kept: dict[str, Any]) -> list[list[str]]:
    """Those that become int8 alone, the largest first, while there is most room; then all others."""
    alone = [name for name, x in kept.items() if _is_quantized(x)]
    alone.sort(key=lambda name: -kept[name].values.size)
    return [*([name] for name in alone), [name for name in kept if name not in alone]]


def _is_quantized(x) -> bool:
    return isinstance(x, Quantized)
