"""What a run needs before it has a machine: its train step, compiled ahead of time for devices that need not exist."""

import dataclasses
import logging
import math
import os
import time
from typing import Any

import jax

from bagpiper_jax import parallel
from bagpiper_jax.models.configs import AudioTowerConfig, DecoderConfig
from bagpiper_jax.training import freezing
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import abstract_state
from bagpiper_jax.training.step import compile_step, make_train_step

logger = logging.getLogger(__name__)

GIB = 1 << 30

HBM_GIB = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
"""Memory of a chip by device kind, from the published data sheets."""


class PlanError(RuntimeError):
    """A topology that cannot be compiled for here; says why and what to do."""


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """A run, and the devices to compile it for.

    Attributes:
        train: the run.
        topology: of TPUs, e.g. "v5e:16x16" or "v5p:4x4x4" (needs libtpu); virtual CPU devices without it.
        devices: number of virtual CPU devices.
        json: file for the result; it is printed in any case.
    """

    train: TrainConfig
    topology: str | None = None
    devices: int = 1
    json: str = ""


def plan(config: PlanConfig) -> dict[str, Any]:
    """Compiles the train step and reads what it takes.

    Returns:
        hbm_gib_per_chip (total, parameters, optimizer, temporaries), its limit and `fits` (None where the limit is
        not known), flops_per_step of the model in both attention conventions, compile_seconds.

    Raises:
        PlanError: the topology is unknown or libtpu is absent.
        ValueError: the mesh or the rows do not fit the devices.
    """
    devices = _devices(config)
    mesh = parallel.make_mesh(config.train.mesh, devices)
    started = time.monotonic()
    compiled = compile_step(make_train_step(config.train, mesh), config.train, mesh)
    seconds = time.monotonic() - started
    memory, limit = _memory(compiled, config.train, mesh), HBM_GIB.get(devices[0].device_kind)
    return {
        "chips": len(devices),
        "device_kind": devices[0].device_kind,
        "mesh": dict(mesh.shape),
        "fits": None if limit is None else memory["total"] <= limit,
        "hbm_limit_gib_per_chip": limit,
        "hbm_gib_per_chip": memory,
        "flops_per_step": flops_per_step(config.train),
        "slots_per_step": config.train.batch.rows * config.train.batch.slots,
        "compile_seconds": round(seconds, 1),
    }


def _devices(config: PlanConfig) -> list[jax.Device]:
    if config.topology is None:
        available = jax.devices("cpu")
        if len(available) < config.devices:
            raise PlanError(
                f"{config.devices} CPU devices asked for, {len(available)} there; plan before using JAX"
            )
        return available[: config.devices]
    from jax.experimental import topologies

    # Otherwise libtpu asks the cloud's metadata server about a machine that is none of its own.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        return list(topologies.get_topology_desc(config.topology, "tpu").devices)
    except Exception as error:  # libtpu reports absence and unknown names in many ways
        raise PlanError(
            f"cannot compile for topology {config.topology!r}: {error}. Install libtpu (pip install 'jax[tpu]') and "
            "name a topology as v5e:4x4, v5p:2x2x2 or v6e:16x16"
        ) from error


def _memory(compiled: jax.stages.Compiled, train: TrainConfig, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """GiB per chip. The state is donated, so results that replace arguments count once."""
    stats, state = compiled.memory_analysis(), abstract_state(train, mesh)
    aliased = stats.alias_size_in_bytes
    total = stats.argument_size_in_bytes + stats.output_size_in_bytes - aliased + stats.temp_size_in_bytes
    sizes = {
        "total": total,
        "parameters": _bytes_per_chip(state.parameters),
        "optimizer": _bytes_per_chip(state.opt_state),
        "temporaries": stats.temp_size_in_bytes,
    }
    return {name: size / GIB for name, size in sizes.items()}


def _bytes_per_chip(tree: Any) -> int:
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def flops_per_step(train: TrainConfig) -> dict[str, float]:
    """Model FLOPs of one step, recomputation not counted: two conventions, and the parts of the full one.

    `full` counts every pair of slots of a row as attended, `causal` half of them; both ignore that documents are
    isolated. XLA's own count is no use: it counts the body of a layer scan once.
    """
    model, rows, slots = train.model, train.batch.rows, train.batch.slots
    trainable, _ = freezing.split(dict.fromkeys(_parameter_names(train)), train.stage)
    # Forward 2; gradient of activations 2; of weights 2.
    decoder_cost = 6 if any(n.startswith("decoder/layers") for n in trainable) else 4
    tower_cost = 6 if any(n.startswith("tower") for n in trainable) else 2
    tokens = rows * slots
    attention = decoder_cost * tokens * slots * 2 * model.decoder.heads * model.decoder.head_width
    attention *= model.decoder.layers
    decoder = decoder_cost * tokens * _decoder_weights(model.decoder)
    tower = tower_cost * rows * train.batch.chunks * _tower_products(model.tower)
    head = 6 * tokens * model.decoder.width * model.vocabulary.size
    return {
        "full": decoder + attention + tower + head,
        "causal": decoder + attention / 2 + tower + head,
        "decoder": decoder + attention,
        "tower": tower,
        "head": head,
    }


def _parameter_names(train: TrainConfig) -> list[str]:
    from bagpiper_jax.training.state import initial_parameters

    return list(jax.eval_shape(lambda: initial_parameters(train.model, 0)))


def _decoder_weights(config: DecoderConfig) -> int:
    """Weights of all layers' matrices, each used once per slot."""
    projections = (2 * config.heads + 2 * config.kv_heads) * config.head_width
    return config.layers * config.width * (projections + 3 * config.ffn_width)


def _tower_products(config: AudioTowerConfig) -> int:
    """Multiply-adds per chunk: convolutions, projection, layers with attention inside a full window."""
    c, bins = config.conv_channels, config.mel_bins
    convolutions = 9 * c * (50 * bins // 2 + c * 25 * bins // 4 + c * 13 * bins // 8)
    attention = 2 * 13 * config.window_chunks * config.width
    layer = 4 * config.width**2 + 2 * config.width * config.ffn_width + attention
    ends = config.width * (c * bins // 8 + config.width + config.output_width)
    return convolutions + 13 * (config.layers * layer + ends)
