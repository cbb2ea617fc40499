"""A trained model, restored for generation."""

import os
from collections.abc import Sequence

from flax import nnx
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.training.state import model_definition
from bagpiper_jax.training.weights import read_adapter, read_base, read_weights, require_base


def load_model(
    checkpoint: str | os.PathLike, config: BagpiperConfig, weights: WeightsConfig = WeightsConfig()
) -> Bagpiper:
    """The model of a training run, or of one of its checkpoints; each device reads its own part.

    That of an adapter's run is its base with the adapter beside each matrix.

    Raises:
        CheckpointError, AdapterError: as `training.weights.read_weights`.
        MeshError: the mesh does not fit the devices.
    """
    parameters = read_weights(checkpoint, config, weights.dtype, _mesh(weights), weights.base)
    return nnx.merge(model_definition(config), unflatten(lora.joined(parameters)))


def load_models(
    checkpoint: str | os.PathLike,
    adapters: Sequence[str],
    config: BagpiperConfig,
    weights: WeightsConfig = WeightsConfig(),
) -> list[Bagpiper]:
    """The model of a checkpoint, and that of each adapter of it, over the same arrays.

    Raises:
        CheckpointError, MeshError: as `load_model`.
        AdapterError: an adapter of another base.
    """
    mesh = _mesh(weights)
    base = read_base(checkpoint, config, weights.dtype, mesh)
    found = [base]
    for directory in adapters:
        adapter = read_adapter(directory, config, mesh)
        require_base(adapter, base[lora.BASE], directory, checkpoint)
        found.append(base | adapter)
    return [nnx.merge(model_definition(config), unflatten(lora.joined(each))) for each in found]


def _mesh(weights: WeightsConfig) -> Mesh | None:
    return None if weights.mesh is None else parallel.make_mesh(weights.mesh)
