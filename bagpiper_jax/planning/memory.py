"""Bytes of a step on one chip: measured by the compiler, or estimated where no compiler for the chip is at hand."""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import TrainState, abstract_state

GIB = 1 << 30


def compiled_memory(compiled: jax.stages.Compiled, train: TrainConfig, mesh: Mesh) -> dict[str, float]:
    """GiB per chip. The state is donated, so results that replace arguments count once."""
    stats = compiled.memory_analysis()
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    total = _total(stats, held, mesh.devices.flat[0].platform)
    return _named(total, total - held, train, mesh)


def _total(stats: Any, held: int, platform: str) -> int:
    # TPU compilers fit their peak into the chip. Their `temp_size_in_bytes` is more than they allocate: they compile
    # programs for which it exceeds the chip (docs/performance.md). That of a CPU is right, and its peak leaves it out.
    return stats.peak_memory_in_bytes if platform == "tpu" else held + stats.temp_size_in_bytes


def exhausted_memory(used_gib: float, train: TrainConfig, mesh: Mesh) -> dict[str, float]:
    """GiB per chip of a step that the compiler refused because it needs `used_gib`."""
    state = sum(state_bytes(train, mesh).values())
    return _named(used_gib * GIB, used_gib * GIB - state, train, mesh)


def estimated_memory(train: TrainConfig, mesh: Mesh) -> dict[str, float]:
    """GiB per chip, the temporaries by rule of thumb: gradients, layer inputs, one layer's work, logits of a chunk with
    their gradient, and of a divided head the whole, with its float32 gradient.
    """
    decoder, sizes = train.model.decoder, state_bytes(train, mesh)
    trainable = bytes_per_chip(_state(train, mesh).trainable)
    rows = max(1, train.batch.rows // train.accumulation // parallel.shards(mesh, "batch"))
    slots, shares = rows * train.batch.slots // parallel.shards(mesh, "slots"), parallel.shards(mesh, "mlp")
    # A layer's input is whole on every chip that shares its rows by tensor; what lies inside the layer is divided.
    saved = (1 + (_SAVED.get(decoder.remat, 1) - 1) / shares) * decoder.layers * slots * decoder.width * 2
    layer = slots * (8 * decoder.width + 6 * decoder.ffn_width / shares) * 2
    ids = train.model.vocabulary.size // parallel.shards(mesh, "vocab")
    logits = rows * train.loss.chunk * ids * (4 + 2)
    head = ids * decoder.width * (2 + 4 * (parallel.shards(mesh, "embed") > 1))
    gradients = trainable * (1 + (train.accumulation > 1))
    temporaries = gradients + saved + layer + logits + head
    return _named(sum(sizes.values()) + temporaries, temporaries, train, mesh)


_SAVED = {"none": 37, "dots": 9.5, "attention": 2, "full": 1}
"""Widths of activations that a layer keeps for the backward pass, by remat policy, as measured of the 8B on TPUs."""


def _named(total: float, temporaries: float, train: TrainConfig, mesh: Mesh) -> dict[str, float]:
    sizes = {"total": total, **state_bytes(train, mesh), "temporaries": temporaries}
    return {name: size / GIB for name, size in sizes.items()}


def state_bytes(train: TrainConfig, mesh: Mesh) -> dict[str, int]:
    """Bytes of parameters and of the optimizer on one chip."""
    state = _state(train, mesh)
    return {"parameters": bytes_per_chip(state.parameters), "optimizer": bytes_per_chip(state.opt_state)}


def bytes_per_chip(tree: Any) -> int:
    """Bytes of a tree of sharded ShapeDtypeStructs on one chip."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def checkpoint_gib(train: TrainConfig, mesh: Mesh) -> float:
    """GiB of one checkpoint: the whole state, once."""
    leaves = jax.tree.leaves(_state(train, mesh))
    return sum(x.size * x.dtype.itemsize for x in leaves) / GIB


def _state(train: TrainConfig, mesh: Mesh) -> TrainState:
    """The abstract state, made once for all candidates of a search that agree on the mesh."""
    decoder = dataclasses.replace(train.model.decoder, remat="none")
    model = dataclasses.replace(train.model, decoder=decoder)
    return abstract_state(dataclasses.replace(train, model=model, accumulation=1, mesh=MeshConfig()), mesh)
