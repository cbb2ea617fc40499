"""A trained base as a checkpoint, and runs of adapters on it."""

import dataclasses

import jax
import numpy as np
import orbax.checkpoint as ocp
from tiny_models import parameters, random_model
from training_helpers import CONFIG, SyntheticLoader, with_

from bagpiper_jax import parallel
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.adapters.lora import LoraConfig
from bagpiper_jax.models.config_json import load_model_config, save_model_config
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training import companions
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.loop import train
from bagpiper_jax.training.weights import TOLD, description, read_base

LORA = LoraConfig(rank=4, alpha=6.0, base="float32")
EVERYTHING = dataclasses.replace(LORA, targets=("decoder/.*", "adaptor/kernel", "stream_emb"))


def save_base(directory, given, model=CONFIG.model):
    """Parameters as an import has them; returns the directory."""
    save_model_config(directory, model, stage="pretrain")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / "parameters", unflatten(given))
    return directory


def save_adapter(directory, base, config: LoraConfig, model, seed: int = 0):
    """An adapter of a base with changes that are not zero, as a run of it has it; returns the directory."""
    parameters = read_base(base, model, "float32", parallel.make_mesh(MeshConfig(), jax.devices()[:1]))
    random = np.random.default_rng(seed)
    adapter = {
        path: random.normal(size=x.shape).astype(np.float32) * 0.1
        if path.startswith(lora.TRAINED)
        else np.asarray(x)
        for path, x in lora.own(lora.attached(config, parameters, seed)).items()
    }
    extras = load_model_config(base)[1]
    found = [companions.find(base, extras, name) or None for name in ("tokenizer", "codec")]
    told = {TOLD: description(config, str(base), adapter)}
    save_model_config(directory, model, **told, **companions.keep(directory, *found))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / "parameters", unflatten(adapter))
    return directory


def random_parameters(seed: int = 0, model=CONFIG.model):
    """Of a model whose every parameter counts, on the host."""
    return parameters(random_model(model, seed))


def adapter_config(base, output="unused", adapter: LoraConfig = LORA, **changes) -> TrainConfig:
    settings = {
        "mesh": MeshConfig(fsdp=4, tensor=2),
        "save_every": 2,
        "log_every": 1,
        "validate_every": 0,
        "steps": 4,
    }
    return with_(CONFIG, output=str(output), init_from=str(base), adapter=adapter, **settings | changes)


def trained(config: TrainConfig, seed: int = 0):
    """Trains to the end; returns the output."""
    assert train(config, SyntheticLoader(seed))
    return config.output


def mesh_of(config: TrainConfig):
    sizes = config.mesh
    count = sizes.fsdp * sizes.tensor * sizes.replica * sizes.sequence
    return parallel.make_mesh(sizes, jax.devices()[:count])


def on_host(tree):
    return {name: np.asarray(x) for name, x in tree.items()}
