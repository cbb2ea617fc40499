"""What a run begins from: the parameters of another run or of an import, whose tables may have other rows."""

import os

from jax.sharding import Mesh

from bagpiper_jax.models.attention.kernels import require_kernel
from bagpiper_jax.models.config_json import ModelConfigError, load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.checkpoint_checks import CheckpointError
from bagpiper_jax.training.checkpoints import find_checkpoint, has_checkpoint, restore_parameters
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import abstract_parameters


def require_start(config: TrainConfig) -> None:
    """Looks, before data are read and anything is compiled, whether a run can begin: its kernel, and `init_from`.

    Raises:
        KernelError: the attention kernel cannot run on these devices.
        CheckpointError, ModelConfigError: `init_from`, where it is needed, is no run or import.
    """
    require_kernel(config.model.decoder.attention)
    if not config.init_from or has_checkpoint(config.output):
        return
    try:
        find_checkpoint(config.init_from)
        load_model_config(config.init_from)
    except (CheckpointError, ModelConfigError) as error:
        raise type(error)(f"TrainConfig.init_from: {error}") from error


def starting_parameters(path: str | os.PathLike, config: BagpiperConfig, mesh: Mesh) -> Parameters:
    """The parameters of a run or an import on the mesh, with tables as they are there; `start_state` fits them.

    Raises:
        CheckpointError, ModelConfigError: there is none, or one of another model.
    """
    theirs = load_model_config(path)[0].table_multiple
    return restore_parameters(path, abstract_parameters(config.with_tables(theirs), mesh))
