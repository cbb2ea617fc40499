"""The best way to lay a run on its chips: remat policy, rows per chip and mesh shape, compared by their HLO."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator
from typing import Any

from bagpiper_jax import parallel
from bagpiper_jax.models.layers import REMAT
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.sizing import memory
from bagpiper_jax.sizing.collectives import Traffic
from bagpiper_jax.sizing.devices import Target
from bagpiper_jax.sizing.plan import plan
from bagpiper_jax.sizing.roofline import loss_bytes, roofline
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.flops import decoder_weights, step_flops

logger = logging.getLogger(__name__)

ROWS_PER_CHIP = (1, 2, 4, 8)
SHARED = (1, 2, 4)
"""Chips that share a row, by tensor or by sequence parallelism."""
HOPELESS = 1.5
"""Candidates whose estimated memory exceeds the limit by this factor are not compiled: estimates are rather too low."""


def search(train: TrainConfig, target: Target, most: int) -> list[dict[str, Any]]:
    """Plans of the candidates that were looked at, the promising first, and last that of the best one that fits.

    The batch stays what it is: fewer rows at a time mean more accumulation. Candidates are ordered by a roofline of
    estimated traffic, and `most` of them are compiled for TPUs as far as their optimised HLO; where one does not fit,
    those that are estimated to take as much are passed over. Then only the fastest by their HLO is compiled whole, and
    the next one if it is refused. Elsewhere nothing is cheaper than a plan, so the first that may fit is the best.

    Args:
        train, target: the run and its devices.
        most: the most candidates to look at.
    """
    ends_at_first = target.slice is None or not target.compiles
    tried, fitting, least = [], [], math.inf
    for candidate, estimate in ranked(train, target):
        if estimate >= least or len(tried) == most:
            continue
        logger.info("looking at %s", describe(candidate))
        tried.append({"candidate": describe(candidate), **plan(candidate, target, to_hlo=True)})
        if tried[-1]["fits"] is False:
            least = min(least, estimate)
        elif ends_at_first:
            return tried
        else:
            fitting.append((tried[-1], candidate))
    for looked_at, candidate in sorted(fitting, key=lambda found: found[0]["roofline_seconds"]["step"]):
        logger.info("compiling %s", describe(candidate))
        tried.remove(looked_at)
        tried.append({"candidate": describe(candidate), **plan(candidate, target)})
        if tried[-1]["fits"]:
            break
    return tried


def ranked(train: TrainConfig, target: Target) -> list[tuple[TrainConfig, float]]:
    """Candidates that may fit and their estimated GiB, by estimated seconds; of equals, who takes less memory."""
    limit = math.inf if target.chip is None else HOPELESS * target.chip.hbm_gib
    scored = []
    for candidate in candidates(train, target):
        mesh = parallel.make_mesh(candidate.mesh, target.devices)
        used = memory.estimated_memory(candidate, mesh)["total"]
        if used <= limit:
            scored.append((round(_seconds(candidate, mesh, target), 4), used, candidate))
    return [(candidate, used) for _, used, candidate in sorted(scored, key=lambda item: item[:2])]


def candidates(train: TrainConfig, target: Target) -> Iterator[TrainConfig]:
    """All combinations that divide the batch."""
    slices = target.slice.slices if target.slice else 1
    chips, kv_heads = len(target.devices), train.model.decoder.kv_heads
    shapes = [
        (t, s) for t, s in itertools.product(SHARED, SHARED) if kv_heads % t == 0 and chips % (t * s) == 0
    ]
    for (tensor, sequence), remat, rows in itertools.product(shapes, REMAT, ROWS_PER_CHIP):
        at_a_time = chips // (tensor * sequence) * rows
        if train.batch.rows % at_a_time or train.batch.slots % (128 * sequence):
            continue
        mesh = MeshConfig(replica=slices, fsdp=-1, sequence=sequence, tensor=tensor)
        decoder = dataclasses.replace(train.model.decoder, remat=remat)
        yield dataclasses.replace(
            train,
            mesh=mesh,
            accumulation=train.batch.rows // at_a_time,
            model=dataclasses.replace(train.model, decoder=decoder),
        )


def describe(train: TrainConfig) -> str:
    """The bindings of a candidate."""
    shape = ", ".join(f"{f.name} {getattr(train.mesh, f.name)}" for f in dataclasses.fields(train.mesh))
    return f"remat {train.model.decoder.remat}, accumulation {train.accumulation}, {shape}"


def _seconds(train: TrainConfig, mesh, target: Target) -> float:
    """A roofline of what fsdp and tensor parallelism must send, for ordering only."""
    if target.chip is None:
        return 0.0
    decoder, chips = train.model.decoder, len(target.devices)
    tensor, sequence = mesh.shape["tensor"], mesh.shape.get("sequence", 1)
    weights = 2 * (decoder_weights(decoder) + 2 * decoder.width * train.model.vocabulary.size) / tensor
    # Gathered forwards and backwards, gradients scattered in between, for every part of the batch.
    gathered = 2 * weights * train.accumulation * (mesh.shape["fsdp"] * sequence > 1)
    scattered = weights * train.accumulation * (mesh.shape["fsdp"] * sequence > 1)
    slots = train.batch.rows * train.batch.slots * tensor / chips
    shared = 8 * decoder.layers * slots * decoder.width * 2 * (tensor - 1) / tensor
    keys = 8 * decoder.layers * slots * decoder.kv_heads * decoder.head_width * 2 * (sequence - 1)
    sent = Traffic({"all-gather": gathered, "reduce-scatter": scattered, "all-reduce": shared + keys}, {}, {})
    state = sum(memory.state_bytes(train, mesh).values())
    bound = roofline(step_flops(train), sent, state, loss_bytes(train, mesh), target.chip, chips)
    # The bound takes all sending to run beside computation. Two kinds do not: what the chips of one row send each
    # other, and the gradients of a layer, which TPU compilers sum by all-reduces of twice the bytes that nothing runs
    # beside. Of everything else a tenth is counted, since it rarely overlaps to its end.
    waited = shared + keys + 2 * scattered
    return bound.step + waited / target.chip.ici_bandwidth + 0.1 * bound.ici
