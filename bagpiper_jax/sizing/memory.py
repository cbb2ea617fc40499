"""Bytes of a step on one chip: measured by the compiler, or estimated where no compiler for the chip is at hand."""

import dataclasses
import logging
import math
import re
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import TrainState, abstract_state

_log = logging.getLogger(__name__)

GIB = 1 << 30


def compiled_memory(
    compiled: jax.stages.Compiled, dump: Path, train: TrainConfig, mesh: Mesh
) -> dict[str, float]:
    """GiB per chip of a train step, see `allocated`."""
    total, held = allocated(compiled, dump, mesh)
    return _named(total, total - held, train, mesh)


def allocated(compiled: jax.stages.Compiled, dump: Path, mesh: Mesh) -> tuple[int, int]:
    """Bytes of one chip that a program takes, and those of them that hold its arguments and results.

    Results that replace donated arguments count once.

    Args:
        dump: directory that the compiler was given as `xla_dump_to`.
    """
    stats = compiled.memory_analysis()
    assert stats is not None, "every backend that plans are made for reports its memory"
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    total = reported_bytes(dump) if _is_tpu(mesh) else held + stats.temp_size_in_bytes
    if total is None:
        _log.warning("this libtpu writes no report of its memory; its peak may be less than it allocates")
        total = stats.peak_memory_in_bytes
    return total, held


def dump_options(mesh: Mesh, directory: str) -> dict[str, Any]:
    """What makes a compiler write `directory` so that `allocated` can read it."""
    return {"xla_dump_to": directory} if _is_tpu(mesh) else {}


def _is_tpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "tpu"


def reported_bytes(dump: Path) -> int | None:
    """Bytes of a TPU's HBM that its compiler allocates, arguments and gaps included, from its report.

    `memory_analysis` does not tell. Its `temp_size_in_bytes` is more than that: programs for which it exceeds the chip
    compile. Its peak leaves out the gaps, and counts what is kept on the core's own memory (docs/performance.md).
    """
    reports = [path.read_text() for path in dump.glob("*memory-usage-report.txt")]
    return max((int(found[1]) for found in map(_REPORT.search, reports) if found), default=None)


_REPORT = re.compile(r"Memory Space: default.*\nTotal bytes: (\d+)")


def refused_gib(error: Exception) -> float:
    """What a compiler refused a program for. Raises the error again if that is not its memory."""
    used = _EXHAUSTED.search(str(error))
    if used is None:
        raise error
    return float(used[1]) * {"M": 1 / 1024, "G": 1, "T": 1024}[used[2]]


_EXHAUSTED = re.compile(r"(?:Used |required for HLO temporaries \()([\d.]+)([MGT])\)? (?:of|exceeds)")
"""How compilers refuse a program for its memory: before and after they generate code."""


def allocated_memory(total: float, train: TrainConfig, mesh: Mesh) -> dict[str, float]:
    """GiB per chip of a step of which only the bytes are known that it needs, as of one that the compiler refused."""
    return _named(total, total - sum(state_bytes(train, mesh).values()), train, mesh)


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
    """GiB of one checkpoint: the whole state, once; of an adapter without its base."""
    state = _state(train, mesh)
    leaves = jax.tree.leaves((lora.stored(state.parameters), state.opt_state))
    return sum(x.size * x.dtype.itemsize for x in leaves) / GIB


def _state(train: TrainConfig, mesh: Mesh) -> TrainState:
    """The abstract state, made once for all candidates of a search that agree on the mesh."""
    decoder = dataclasses.replace(train.model.decoder, remat="none")
    model = dataclasses.replace(train.model, decoder=decoder)
    return abstract_state(dataclasses.replace(train, model=model, accumulation=1, mesh=MeshConfig()), mesh)
