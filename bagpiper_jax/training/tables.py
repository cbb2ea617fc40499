"""What a run begins from: the parameters of another run or of an import, whose tables may have other rows."""

import dataclasses
import os

from jax.sharding import Mesh

from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.attention.kernels import require_kernel
from bagpiper_jax.models.config_json import ModelConfigError, load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.checkpoint_checks import CheckpointError
from bagpiper_jax.training.checkpoints import find_checkpoint, has_checkpoint
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import TrainState, fitted, model_shapes
from bagpiper_jax.training.weights import read_base, read_weights, require_base


def require_start(config: TrainConfig) -> None:
    """Looks, before data are read and anything is compiled, whether a run can begin: its kernel, and `init_from`.

    Raises:
        AdapterError: the adapter attaches to nothing.
        KernelError: the attention kernel cannot run on these devices.
        CheckpointError, ModelConfigError: `init_from`, where it is needed, is no run or import.
    """
    require_kernel(config.model.decoder.attention)
    if config.adapter:
        lora.paths(config.adapter, model_shapes(config.model))
    if not config.init_from or has_checkpoint(config.output) and not config.adapter:
        return
    try:
        find_checkpoint(config.init_from)
        load_model_config(config.init_from)
    except (CheckpointError, ModelConfigError) as error:
        raise type(error)(f"TrainConfig.init_from: {error}") from error


def starting_parameters(path: str | os.PathLike, config: BagpiperConfig, mesh: Mesh) -> Parameters:
    """The parameters of a run or an import on the mesh, with tables as they are there; `start_state` fits them.

    An adapter's changes are added to its base.

    Raises:
        CheckpointError, ModelConfigError: there is none, or one of another model.
        AdapterError: an adapter whose base is not there, or is another one.
    """
    return read_weights(path, _as_there(path, config), mesh=mesh, merges=True)


def base_parameters(config: TrainConfig, mesh: Mesh) -> Parameters:
    """What the run's adapter changes, in the precision that it is kept in, and its fingerprint; else as above.

    Raises:
        CheckpointError, ModelConfigError: there is none, or one of another model.
        AdapterError: it is an adapter itself.
    """
    assert config.adapter and config.init_from, "TrainConfig gives a base to every adapter"
    sizes = _as_there(config.init_from, config.model)
    return read_base(config.init_from, sizes, config.adapter.base, mesh)


def with_base(state: TrainState, config: TrainConfig, mesh: Mesh) -> TrainState:
    """The restored state of an adapter, with the base that it was trained on.

    Raises:
        CheckpointError, ModelConfigError: the base is not there.
        AdapterError: `init_from` has other parameters than when the run began.
    """
    base = base_parameters(config, mesh)
    require_base(state.frozen, base.pop(lora.BASE), config.output, config.init_from)
    return dataclasses.replace(state, frozen=fitted(base, config, mesh) | state.frozen)


def _as_there(path: str | os.PathLike, config: BagpiperConfig) -> BagpiperConfig:
    return config.with_tables(load_model_config(path)[0].table_multiple)
