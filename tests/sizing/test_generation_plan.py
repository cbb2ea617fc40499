"""The plan of an engine: bytes, requests at once, bounds of speed, cost; its step compiled for what is not there."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
from places import REPOSITORY

from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation import step
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.memory import Memory
from bagpiper_jax.generation.pool import page_bytes
from bagpiper_jax.generation.programs import Programs
from bagpiper_jax.generation.requests import Request
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig, make_mesh
from bagpiper_jax.runs.chips import CHIPS, Slice, find_slice
from bagpiper_jax.sizing.decoding import Work, held, most_requests
from bagpiper_jax.sizing.devices import Target, cpu_devices, tpu_devices
from bagpiper_jax.sizing.engine_step import EngineStep
from bagpiper_jax.sizing.generation import GenerationPlan, plan_generation
from bagpiper_jax.sizing.generation_table import generation_table
from bagpiper_jax.sizing.memory import bytes_per_chip

pytestmark = pytest.mark.optimised
LIBTPU = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
RELEASE = BagpiperConfig()
TINY = EngineConfig(rows=2, context=64, page=8, chunk=8, steps=2)


def on(kind: str, chips: int = 1) -> Target:
    """Chips for which nothing is compiled."""
    return Target(cpu_devices(chips), Slice(kind, chips), kind)


def weights(dtype: str) -> WeightsConfig:
    return WeightsConfig(MeshConfig(fsdp=1, tensor=-1), dtype)


@pytest.mark.parametrize(
    "kind, dtype, rows",
    [
        ("TPU v5 lite", "int8", 117),
        ("TPU v6 lite", "bfloat16", 118),
        ("TPU v6 lite", "int8", 235),
        ("TPU v5", "bfloat16", 199),
        ("TPU v5", "int8", 398),
        ("NVIDIA H100", "bfloat16", 241),
        ("NVIDIA H100", "int8", 480),
    ],
)
def test_one_request_is_bound_by_reading_the_weights(kind, dtype, rows):
    """The rows per second of one request with hardly any keys, computed elsewhere from the sizes of the release."""
    wanted = GenerationPlan(weights(dtype), prompt=1, audio=8, guided=False)
    found = plan_generation(RELEASE, wanted, on(kind))
    assert found["rows_per_second"]["alone"] == pytest.approx(rows, rel=0.02)
    assert found["roofline_seconds"]["bound_by"] == "hbm"
    assert found["fits"] is None and found["memory_is"] == "estimated"
    assert "from bytes and FLOPs alone" in generation_table(found)


def test_a_v5e_holds_the_release_in_int8_alone():
    wide, narrow = (
        plan_generation(RELEASE, GenerationPlan(weights(dtype)), on("TPU v5 lite"))
        for dtype in ("bfloat16", "int8")
    )
    assert wide["fits"] is False and wide["requests"]["at_once"] == 0 and "rows_per_second" not in wide
    assert any("int8" in knob for knob in wide["advice"]) and "DOES NOT FIT" in generation_table(wide)
    assert narrow["fits"] is None and narrow["requests"]["at_once"] > 0 and not narrow["advice"]
    # 6.95e9 weights of the layers are a byte less each.
    less = wide["hbm_gib_per_chip"]["weights"] - narrow["hbm_gib_per_chip"]["weights"]
    assert less == pytest.approx(6.946e9 / 2**30, rel=0.002)


def test_memory_that_is_asked_for_and_not_there_does_not_fit():
    wanted = GenerationPlan(engine=EngineConfig(memory=70.0))
    found = plan_generation(RELEASE, wanted, on("NVIDIA H100"))
    assert found["fits"] is False and any("EngineConfig.memory" in knob for knob in found["advice"])
    assert plan_generation(RELEASE, wanted, on("NVIDIA H200"))["fits"] is None


def test_many_requests_share_the_weights_and_each_adds_its_keys():
    few, many = (
        plan_generation(RELEASE, GenerationPlan(engine=EngineConfig(rows=rows)), on("NVIDIA H200"))
        for rows in (1, 32)
    )
    seconds = [found["roofline_seconds"]["hbm"] for found in (few, many)]
    # Two branches of 31 more requests, each of 512 + 507 / 2 slots of 147 kB at 4.8 TB/s.
    keys = 2 * 31 * (512 + 507 / 2) * 2 * 36 * 8 * 128 * 2 / 4.8e12
    assert seconds[1] - seconds[0] == pytest.approx(keys, rel=1e-6)
    assert many["rows_per_second"]["together"] > 15 * few["rows_per_second"]["together"]
    assert many["usd_per_hour_of_audio"] < few["usd_per_hour_of_audio"] / 10


def test_first_audio_takes_the_prompt_and_whole_calls_of_steps():
    def alone(steps, prompt=512):
        wanted = GenerationPlan(engine=EngineConfig(steps=steps), prompt=prompt)
        found = plan_generation(RELEASE, wanted, on("NVIDIA H100"))
        step_seconds = 1 / found["rows_per_second"]["alone"]
        return (found["first_audio_seconds"]["alone"] - found["prefill_seconds"]) / step_seconds, found

    # A step that feeds the role, and 18 rows: 1, 7 of the streams' delay, 10 to the right of a frame.
    assert [round(alone(steps)[0], 6) for steps in (1, 8, 16)] == [19, 24, 32]
    short, long = (alone(8, prompt)[1]["prefill_seconds"] for prompt in (512, 1024))
    assert 2 * short < long < 2.2 * short
    found = alone(8, 1024)[1]
    # The second chunk waits for a call of the others.
    others = (3 + 1) * 8 * found["roofline_seconds"]["step"]
    together = found["first_audio_seconds"]["together"]
    assert together == pytest.approx(found["prefill_seconds"] + others)


def test_an_hour_of_audio_costs_its_rows_and_the_text_before_them():
    plans = {
        name: plan_generation(RELEASE, GenerationPlan(audio=2007, **extra), on("NVIDIA H100"))
        for name, extra in {"list": {}, "half": {"price": 3.44}, "text": {"text": 700}}.items()
    }
    cost = {name: found["usd_per_hour_of_audio"] for name, found in plans.items()}
    assert plans["list"]["price_per_chip_hour"] == CHIPS["NVIDIA H100"].price == 6.88
    assert cost["half"] == pytest.approx(cost["list"] / 2)
    rows = 3600 * 50 * 2007 / 2000 / plans["list"]["rows_per_second"]["together"]
    assert rows / 3600 * 6.88 < cost["list"] < 1.1 * rows / 3600 * 6.88
    assert cost["text"] > 1.3 * cost["list"]


DECODER = DecoderConfig(2, 16, 16, 2, 1, 8, dtype="float32")
NO_DEVICE = Programs(
    *[None] * 4, copy=lambda pages, to, source: pages, take=lambda pages, page: 0, put=lambda pages, *_: pages
)


def held_by_the_engine(pages: int, work: Work, engine: EngineConfig) -> int:
    """How many requests the engine's own books give all pages that they need at their longest."""
    size = (pages + 0.5) * page_bytes(DECODER, engine.page) / 2**30
    memory = Memory(NO_DEVICE, DECODER, dataclasses.replace(engine, memory=size))
    assert memory.pool.size == pages
    active = []

    def room(request) -> bool:
        asked = request, active, pytest.fail
        while work.guided and memory.shared_slots < request.shared_needed:
            if memory.grow_shared(*asked) is None:
                return False
        if work.guided and not memory.branch_off(*asked):
            return False
        request.position = work.slots
        return memory.grow(*asked)

    while True:
        request = Request(prompt_of(work.prompt), LoopConfig(), 0, number=len(active))
        request.position = request.shared_needed = work.prompt + 1
        request.phase = step.UNGUIDED_AUDIO
        active.append(request)
        if not room(request):
            return len(active) - 1


def prompt_of(slots: int):
    vocabulary = tiny_models.MODEL.vocabulary
    empty = len(render_prompt([Message("user", "text", np.zeros(1, np.int32))], vocabulary)) - 1
    return render_prompt([Message("user", "text", np.zeros(slots - empty, np.int32))], vocabulary)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("prompt, audio", [(15, 20), (16, 21), (31, 3), (20, 50)])
def test_as_many_requests_as_the_engine_finds_pages_for(prompt, audio, guided):
    work = Work(prompt, 0, audio, guided)
    for pages in (12, 40, 101):
        engine = dataclasses.replace(TINY, rows=100, context=128)
        assert most_requests(pages + 1, work, engine) == held_by_the_engine(pages, work, engine)


def test_a_request_fits_its_context():
    with pytest.raises(ValueError, match="1021 slots is longer than EngineConfig.context = 1000"):
        GenerationPlan(engine=EngineConfig(context=1000))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_compiler_is_given_what_the_plan_counts(dtype):
    mesh = make_mesh(MeshConfig(fsdp=1, tensor=2), cpu_devices(2))
    engine_step = EngineStep(tiny_models.MODEL, TINY, WeightsConfig(dtype=dtype), mesh, guided=True)
    parts = held(engine_step.parameters, engine_step.heads, tiny_models.MODEL, TINY, mesh)
    given = engine_step.compile(pages=9).memory_analysis().argument_size_in_bytes
    counted = bytes_per_chip(engine_step.given) + 9 * parts.page
    # Besides, the step is told where its rows stand.
    assert counted < given < counted + 2048
    assert parts.layers + parts.text_head + parts.audio_head < counted < parts.fixed + 9 * parts.page


def test_an_engine_for_cpu_devices_is_compiled(tmp_path):
    wanted = GenerationPlan(engine=TINY, prompt=8, audio=10)
    found = plan_generation(tiny_models.MODEL, wanted, Target(cpu_devices(2), None))
    assert found["memory_is"] == "compiled" and found["fits"] is None and found["mesh"]["tensor"] == 2
    assert found["hbm_gib_per_chip"]["temporaries"] > 0 and found["requests"]["at_once"] == 2
    assert "limit unknown" in generation_table(found)


@pytest.mark.slow
@LIBTPU
def test_two_layers_of_the_release_answer_on_a_v5e():
    model = BagpiperConfig(DecoderConfig(layers=2), dataclasses.replace(RELEASE.tower, layers=2))
    where = find_slice("v5e:2x2")
    target = Target(tpu_devices(where), where, "v5e:2x2")
    found = plan_generation(model, GenerationPlan(weights("int8"), EngineConfig(rows=8)), target)
    assert found["fits"] is True and found["requests"]["at_once"] == 8
    assert 0 < found["hbm_gib_per_chip"]["temporaries"] < 1 and 0.99 < found["page_layout"] < 1.01
    # Every layer sums its heads and its feed-forward over the chips that share them: 16 rows of 4096 bfloat16 numbers.
    assert found["sent_gib_per_chip"] * 2**30 > 2 * 2 * 16 * 4096 * 2


@pytest.mark.slow
def test_the_job_plans_an_engine(tmp_path):
    command = [sys.executable, "-m", "bagpiper_jax", "plan", "--gin_file=gin/runs/nano_pretrain.gin"]
    command += ["--topology=h100", "--gin.PlanConfig.generation=@GenerationPlan()"]
    command += ["--gin.GenerationPlan.prompt=100", f"--json={tmp_path / 'plan.json'}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["request"]["prompt"] == 100 and "US dollars per hour of audio" in done.stdout
