"""The plan of an engine: does it fit, how many requests does it answer at once, how fast can it be, what does it cost.

Its decode step is compiled ahead of time for TPUs that need not be there. For GPUs no compiler is at hand: their bounds
follow from bytes and FLOPs alone.
"""

import dataclasses
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.pool import page_bytes, pages_for
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.sizing import memory
from bagpiper_jax.sizing.collectives import Traffic, traffic
from bagpiper_jax.sizing.decoding import Decoding, Held, Work, held, most_requests
from bagpiper_jax.sizing.devices import Target, slice_of
from bagpiper_jax.sizing.engine_step import EngineStep
from bagpiper_jax.sizing.memory import GIB

logger = logging.getLogger(__name__)

_COMPILED_SHARE = 0.8
"""Of the memory that weights leave; the pool that is compiled takes it, so that what a step computes finds room."""


@dataclasses.dataclass(frozen=True)
class GenerationPlan:
    """An engine to be sized, and what it is asked: requests that are all alike.

    Attributes:
        weights: where the model lies, and in which precision; by default its heads are divided over all chips.
        engine: its sizes; `memory` None takes all that the chips have left.
        prompt: slots of a request's prompt.
        text: rows of text before the audio; 0 where the caption is given.
        audio: rows of audio, 50 to the second and 7 besides.
        guided: the audio is guided, so each row of it is computed with and without its prompt.
        price: US dollars for an hour of a chip; None takes the list price in `runs.chips`.
    """

    weights: WeightsConfig = WeightsConfig(MeshConfig(fsdp=1, tensor=-1), "bfloat16")
    engine: EngineConfig = EngineConfig()
    prompt: int = 512
    text: int = 0
    audio: int = 507
    guided: bool = True
    price: float | None = None

    def __post_init__(self):
        if min(self.prompt, self.audio) < 1 or self.text < 0:
            raise ValueError(f"prompt and audio must be at least 1 slot, text at least 0 rows: {self}")
        if self.work.slots > self.engine.context:
            raise ValueError(
                f"a request of {self.work.slots} slots is longer than EngineConfig.context = {self.engine.context}"
            )

    @property
    def work(self) -> Work:
        return Work(self.prompt, self.text, self.audio, self.guided)


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What compiling told.

    Attributes:
        temporaries: bytes of one chip that a step computes with.
        page: bytes of a page as the compiler lays it out, 0 where nobody asked it.
        sent: what one chip sends in a step.
        seconds: that compiling took; None where nothing was compiled.
    """

    temporaries: float = 0.0
    page: float = 0.0
    sent: Traffic = Traffic({}, {}, {})
    seconds: float | None = None


def plan_generation(model: BagpiperConfig, wanted: GenerationPlan, target: Target) -> dict[str, Any]:
    """Sizes an engine for a slice.

    Returns:
        What docs/plan.md describes. What only a compiler knows is left out for GPUs.

    Raises:
        MeshError: the mesh does not fit the devices.
    """
    mesh = _mesh(wanted.weights, target.devices)
    step = EngineStep(model, wanted.engine, wanted.weights, mesh, wanted.guided)
    parts = held(step.parameters, step.heads, model, wanted.engine, mesh)
    limit = target.chip.hbm_gib * GIB if target.chip else None
    measured = _compiled(step, parts, limit) if target.compiles and _has_room(parts, limit) else _Measured()
    page = max(measured.page, parts.page)
    # An engine counts the numbers of a page. Where their layout takes more, as much memory holds fewer pages.
    room = None if limit is None else (limit - parts.fixed - measured.temporaries) * parts.page / page
    pages = _pages(wanted.engine, model, mesh, room)
    requests = most_requests(pages, wanted.work, wanted.engine)
    at_once = min(requests, wanted.engine.rows)
    used = {
        "weights": parts.layers + parts.others,
        "heads": parts.text_head + parts.audio_head,
        "cache": pages * page,
        "temporaries": measured.temporaries,
    }
    total = sum(used.values())
    fits = None if limit is None else requests > 0 and total <= limit
    result = {
        **_asked(wanted, mesh, target),
        # What only bytes say can be no, and never yes.
        "fits": None if fits and not target.compiles else fits,
        "hbm_limit_gib_per_chip": None if limit is None else limit / GIB,
        "hbm_gib_per_chip": {name: size / GIB for name, size in {"total": total, **used}.items()},
        "memory_is": "estimated" if measured.seconds is None else "compiled",
        "compile_seconds": measured.seconds and round(measured.seconds, 1),
        "page_layout": page / parts.page,
        "requests": {"at_once": at_once, "in_memory": requests, "rows": wanted.engine.rows},
        "advice": _advice(wanted, parts, limit, mesh) if fits is False else [],
    }
    if target.chip and fits:
        decoding = Decoding(model, wanted.engine, wanted.work, parts, mesh, target.chip, measured.sent)
        price = target.chip.price if wanted.price is None else wanted.price
        result |= _speed(decoding, at_once, price)
    return result


def _asked(wanted: GenerationPlan, mesh: Mesh, target: Target) -> dict[str, Any]:
    return {
        "slice": target.name,
        "chips": mesh.size,
        "device_kind": target.kind,
        "mesh": dict(mesh.shape),
        "weights": wanted.weights.dtype,
        "request": {**dataclasses.asdict(wanted.work), "slots": wanted.work.slots},
    }


def _mesh(weights: WeightsConfig, devices: list[jax.Device]) -> Mesh:
    """The mesh of the weights; without one, all lies on the first device, as in an engine."""
    if weights.mesh is None:
        return parallel.make_mesh(MeshConfig(fsdp=1), devices[:1])
    return parallel.make_mesh(weights.mesh, devices)


def _has_room(parts: Held, limit: float | None) -> bool:
    return limit is None or parts.fixed + parts.page < limit


def _pages(engine: EngineConfig, model: BagpiperConfig, mesh: Mesh, room: float | None) -> int:
    """Pages of the pool, that of waste among them: of the memory that is asked for, else of the bytes that are left."""
    if engine.memory is None and room is not None:
        room -= page_bytes(model.decoder, engine.page, mesh)
        if room <= 0:
            return 0
        engine = dataclasses.replace(engine, memory=room / GIB)
    return pages_for(engine, model.decoder, mesh)


def _compiled(step: EngineStep, parts: Held, limit: float | None) -> _Measured:
    mesh = step.mesh
    room = None if limit is None else _COMPILED_SHARE * (limit - parts.fixed)
    pages = max(_pages(step.engine, step.model, mesh, room), 2)
    logger.info("compiling the step of %d rows over %d pages", step.engine.rows, pages)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as dump:
        try:
            compiled = step.compile(pages, memory.dump_options(mesh, dump))
        except jax.errors.JaxRuntimeError as error:
            arguments = memory.bytes_per_chip(step.given) + pages * parts.page
            needed = memory.refused_gib(error) * GIB
            return _Measured(max(needed - arguments, 0), seconds=time.monotonic() - began)
        total, kept = memory.allocated(compiled, Path(dump), mesh)
    page = (kept - memory.bytes_per_chip(step.given)) / pages
    sent = traffic(compiled.as_text() or "", slice_of(list(mesh.devices.flat)), one_turn=True)
    return _Measured(total - kept, page, sent, time.monotonic() - began)


def _speed(decoding: Decoding, requests: int, price: float) -> dict[str, Any]:
    """Bounds of speed and cost with so many requests at once, and with one."""
    bound = decoding.step(requests)
    busy = decoding.mesh.size * decoding.request_seconds(requests)
    sound = decoding.audio_seconds
    return {
        "flops_per_step": decoding.step_flops(requests),
        "read_gib_per_chip": decoding.step_bytes(requests) / GIB,
        "sent_gib_per_chip": sum(decoding.sent.ici.values()) / GIB,
        "roofline_seconds": {**dataclasses.asdict(bound), "step": bound.step, "bound_by": bound.bound_by},
        "rows_per_second": {"together": requests / bound.step, "alone": 1 / decoding.step(1).step},
        "prefill_seconds": decoding.prefill,
        "first_audio_seconds": {
            "together": decoding.first_audio(requests),
            "alone": decoding.first_audio(1),
        },
        "price_per_chip_hour": price,
        "usd_per_hour_of_audio": price * busy / sound if sound else None,
    }


def _advice(wanted: GenerationPlan, parts: Held, limit: float | None, mesh: Mesh) -> list[str]:
    """Bindings that take less memory, the cheapest first."""
    found = []
    if wanted.engine.memory is not None:
        found.append("EngineConfig.memory = None: as much as is left")
    smaller = {"float32": "bfloat16", "bfloat16": "int8"}.get(wanted.weights.dtype)
    if smaller:
        found.append(f"WeightsConfig.dtype = '{smaller}': about half the bytes of the decoder's layers")
    if mesh.size > 1 and mesh.shape["tensor"] < mesh.size:
        found.append(f"MeshConfig.tensor = {mesh.size}: each chip holds a smaller part of the layers")
    if limit is not None and parts.fixed < limit:
        found.append("GenerationPlan.audio, or .prompt: shorter requests need fewer pages")
    found.append("or take more chips, or chips with more memory, see --topology")
    return found
