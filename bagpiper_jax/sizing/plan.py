"""The plan of a run: its very train step, compiled ahead of time for devices that need not be there."""

import dataclasses
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.runs import compiler_flags
from bagpiper_jax.runs.chips import Slice, find_slice
from bagpiper_jax.sizing import memory
from bagpiper_jax.sizing.advice import advice
from bagpiper_jax.sizing.collectives import traffic
from bagpiper_jax.sizing.devices import PlanError, Target, cpu_devices, slice_of, tpu_devices
from bagpiper_jax.sizing.generation import GenerationPlan
from bagpiper_jax.sizing.optimised import optimised_step
from bagpiper_jax.sizing.roofline import loss_bytes, roofline, speed
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.flops import StepFlops, step_flops
from bagpiper_jax.training.step import compile_step, make_train_step

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """A run, and the devices to compile it for.

    Attributes:
        train: the run.
        topology: instead of the run's own slice: a name in `chips.SLICES`, or TPUs as "v5e:4x4" or "2xv5e:4x4". TPUs
            need libtpu. Without either the step is compiled for virtual CPU devices.
        devices: number of virtual CPU devices.
        search: look for the best remat policy, rows per chip and mesh shape that fit.
        candidates: the most candidates of a search whose HLO is made; of these the best one is compiled.
        hlo: compile for TPUs only as far as the optimised HLO: the same figures, in a part of the time.
        json: file for the result; a table is printed in any case.
        generation: an engine, to be planned instead of the run's step: the run's model, answering.
    """

    train: TrainConfig
    topology: str | None = None
    devices: int = 1
    search: bool = False
    candidates: int = 16
    hlo: bool = False
    json: str = ""
    generation: GenerationPlan | None = None


def wanted_slice(config: PlanConfig) -> Slice | None:
    """The slice that a plan is for. Raises PlanError: its name is unknown."""
    name = config.topology or config.train.slice
    try:
        return find_slice(name) if name else None
    except ValueError as error:
        raise PlanError(str(error)) from error


def target(config: PlanConfig) -> Target:
    """The devices of a plan. Raises PlanError."""
    wanted = wanted_slice(config)
    if wanted is None:
        return Target(cpu_devices(config.devices), None)
    devices = tpu_devices(wanted) if wanted.topology else cpu_devices(wanted.chips)
    return Target(devices, wanted, config.topology or config.train.slice)


def plan(train: TrainConfig, target: Target, to_hlo: bool = False) -> dict[str, Any]:
    """Compiles the train step and reads what it takes.

    Args:
        train, target: the run and its devices.
        to_hlo: whether a step for TPUs is compiled only as far as its optimised HLO: the same figures, in a part of the
            time, without the proof that code can be made of it.

    Returns:
        What docs/plan.md describes: memory per chip and whether it fits (None where the limit is unknown), FLOPs per
        step, traffic, bounds of speed, cost of the run, size of a checkpoint. What only a compiler knows is left out
        for GPUs, and for a step that it refused.

    Raises:
        MeshError, ValueError: the mesh or the rows do not fit the devices.
    """
    train = _with_flags_of(train, target)
    mesh = parallel.make_mesh(train.mesh, target.devices)
    flops, chip, chips = step_flops(train), target.chip, len(target.devices)
    measured = _compiled(train, mesh, flops, target, to_hlo) if target.compiles else _estimated(train, mesh)
    limit, used = chip.hbm_gib if chip else None, measured["hbm_gib_per_chip"]
    fits = None if limit is None else measured.pop("compiled", True) and used["total"] <= limit
    if fits and not target.compiles:
        fits = None  # an estimate can say no, and never yes
    return {
        "slice": target.name,
        "chips": chips,
        "device_kind": target.kind,
        "mesh": dict(mesh.shape),
        "slots_per_step": train.batch.rows * train.batch.slots,
        "fits": fits,
        "hbm_limit_gib_per_chip": limit,
        "flops_per_step": _flops_table(flops),
        "checkpoint_gib": memory.checkpoint_gib(train, mesh),
        **measured,
        "advice": advice(train, mesh, used, limit) if limit is not None and fits is False else [],
    }


def _estimated(train: TrainConfig, mesh: Mesh) -> dict[str, Any]:
    return {"hbm_gib_per_chip": memory.estimated_memory(train, mesh), "memory_is": "estimated"}


def _with_flags_of(train: TrainConfig, target: Target) -> TrainConfig:
    """The run with its flags of the compiler; without them on chips of another kind than those of its slice."""
    if train.slice and find_slice(train.slice).kind != target.kind:
        return dataclasses.replace(train, compiler_flags=())
    return train


def _compiled(
    train: TrainConfig, mesh: Mesh, flops: StepFlops, target: Target, to_hlo: bool
) -> dict[str, Any]:
    began = time.monotonic()
    try:
        text, found = (_optimised if to_hlo and _is_tpu(target) else _code)(train, mesh, target)
    except jax.errors.JaxRuntimeError as error:
        found = memory.allocated_memory(memory.refused_gib(error) * memory.GIB, train, mesh)
        return {"hbm_gib_per_chip": found, "memory_is": "compiled", "compiled": False}
    seconds = time.monotonic() - began
    devices = list(mesh.devices.flat)
    sent = traffic(text, slice_of(devices))
    state = sum(memory.state_bytes(train, mesh).values())
    result = {
        "hbm_gib_per_chip": found,
        "memory_is": "compiled",
        "collective_gib_per_chip": {
            "ici": {kind: size / memory.GIB for kind, size in sent.ici.items()},
            "dcn": {kind: size / memory.GIB for kind, size in sent.dcn.items()},
        },
        "synchronous_gib_per_chip": {kind: size / memory.GIB for kind, size in sent.synchronous.items()},
        "collectives_per_step": sent.count,
        "compile_seconds": round(seconds, 1),
    }
    if _is_tpu(target):
        result |= {"compiler_flags": list(train.compiler_flags), "libtpu": compiler_flags.version()}
    if target.chip:
        bound = roofline(flops, sent, state, loss_bytes(train, mesh), target.chip, len(devices))
        result |= speed(bound, flops, train, target.chip, len(devices))
    return result


def _code(train: TrainConfig, mesh: Mesh, target: Target) -> tuple[str, dict[str, float]]:
    """The text of a compiled step, and its GiB per chip."""
    with tempfile.TemporaryDirectory() as dump:
        compiled = compile_step(make_train_step(train, mesh), train, mesh, memory.dump_options(mesh, dump))
        return compiled.as_text() or "", memory.compiled_memory(compiled, Path(dump), train, mesh)


def _optimised(train: TrainConfig, mesh: Mesh, target: Target) -> tuple[str, dict[str, float]]:
    """The same of a step that no code was made of."""
    text, total = optimised_step(train, target.slice)
    return text, memory.allocated_memory(total, train, mesh)


def _is_tpu(target: Target) -> bool:
    return target.devices[0].platform == "tpu"


def _flops_table(flops: StepFlops) -> dict[str, float]:
    return {
        "full": flops.full,
        "causal": flops.causal,
        "executed": flops.executed,
        "decoder_full": flops.decoder + flops.attention,
        "decoder_causal": flops.decoder + flops.attention / 2,
        "tower": flops.tower,
        "head": flops.head,
    }
