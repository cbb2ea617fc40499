"""Parameters of another run or an import, whose tables may have other rows beyond the vocabulary."""

import os

from jax.sharding import Mesh

from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.checkpoints import restore_parameters
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import abstract_parameters


def starting_parameters(path: str | os.PathLike, config: BagpiperConfig, mesh: Mesh) -> Parameters:
    """The parameters of a run or an import on the mesh, with tables as they are there; `start_state` fits them.

    Raises:
        CheckpointError, ModelConfigError: there is none, or one of another model.
    """
    theirs = load_model_config(path)[0].table_multiple
    return restore_parameters(path, abstract_parameters(config.with_tables(theirs), mesh))
