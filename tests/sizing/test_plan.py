"""The plan of a run: memory, FLOPs and traffic of the train step itself, for virtual CPU devices and absent TPUs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest
import tiny_models
from places import REPOSITORY

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.jobs import plan as job
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.chips import CHIPS, find_slice
from bagpiper_jax.sizing import plan as planning
from bagpiper_jax.sizing.devices import PlanError, Target, cpu_devices
from bagpiper_jax.sizing.plan import PlanConfig, plan, target
from bagpiper_jax.sizing.roofline import Roofline, speed
from bagpiper_jax.sizing.table import table
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.flops import StepFlops, step_flops

pytestmark = pytest.mark.optimised
LIBTPU = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")

TRAIN = TrainConfig(
    "out",
    "lock",
    model=tiny_models.MODEL,
    mesh=MeshConfig(fsdp=2),
    batch=BatchShape(4, 32, 2, 20),
    stage="scratch",
)
RELEASE = dataclasses.replace(TRAIN, model=BagpiperConfig(), batch=BatchShape(1, 8192, 64), stage="pretrain")


@pytest.fixture(scope="module")
def tiny_plan():
    return plan(TRAIN, Target(cpu_devices(2), None))


def test_plan_for_cpu_devices_counts_the_state_exactly(tiny_plan):
    parameters = sum(x.size for x in tiny_models.parameters(tiny_models.random_model()).values())
    memory = tiny_plan["hbm_gib_per_chip"]
    assert tiny_plan["chips"] == 2 and tiny_plan["fits"] is None
    # Nearly all of it is sharded by two; moments take twice the parameters.
    assert 0.5 <= memory["parameters"] * 2**30 / (4 * parameters) <= 0.75
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.1)
    assert memory["total"] > memory["parameters"] + memory["optimizer"] and memory["temporaries"] > 0
    assert tiny_plan["checkpoint_gib"] * 2**30 == pytest.approx(12 * parameters, rel=0.01)


def test_traffic_of_sharded_parameters_is_in_the_plan(tiny_plan):
    sent = tiny_plan["collective_gib_per_chip"]
    assert sum(sent["ici"].values()) > tiny_plan["hbm_gib_per_chip"]["parameters"] / 2 and not sent["dcn"]
    assert tiny_plan["collectives_per_step"]["all-gather"] > TRAIN.model.decoder.layers


def test_the_table_names_what_the_json_holds(tiny_plan):
    text = table(tiny_plan | {"mixture": {"lock": "x", "valid": None, "shares": {}, "violations": []}})
    assert "limit unknown" in text and "ici, all-gather" in text and "not cached yet" in text


def test_a_bound_is_computing_and_what_it_waits_for_and_no_mfu_exceeds_the_peak(tiny_plan):
    # The full convention counts 1.1 times what a second of the chip's peak computes, the causal one 0.8 times.
    peak = CHIPS["TPU v6 lite"].flops
    flops = StepFlops(decoder=0.5 * peak, attention=0.6 * peak, tower=0.0, head=0.0, recomputed=0.2 * peak)
    for waiting, causal, full in ((0.0, 0.8, None), (1.0, 0.4, 0.55)):
        bound = Roofline(compute=1.0, hbm=0.1, ici=0.2, dcn=0.0, waiting=waiting)
        assert bound.step == 1 + waiting and bound.bound_by == "compute"
        found = speed(bound, flops, TRAIN, CHIPS["TPU v6 lite"], 1)
        assert found["mfu_bound"] == pytest.approx(causal)
        assert found["mfu_bound_full"] == (pytest.approx(full) if full else None)
        line = next(line for line in table(tiny_plan | found).splitlines() if line.startswith("MFU"))
        assert f"{causal:.1%} causal" in line and ("full" in line) == bool(full)


def test_flops_of_the_release_are_six_per_parameter_and_token():
    # 8.27e9 trainable, less the embedding table, which costs no product (docs/reference.md, Frozen parameters)
    flops = step_flops(dataclasses.replace(RELEASE, batch=BatchShape(1, 8192, 0)))
    products = 8_268_432_384 - 160_392 * 4096
    attention = 6 * 8192**2 * 2 * 4096 * 36
    assert flops.full == pytest.approx(6 * 8192 * products + attention, rel=0.005)
    assert flops.causal == pytest.approx(flops.full - attention / 2)
    # Full remat runs the layers' forward pass once more, but for the product that closes a layer.
    down = 2 * 8192 * 36 * 4096 * 12_288
    assert flops.recomputed == pytest.approx((flops.decoder + flops.attention / 2) / 3 - down)


def test_a_kernel_that_keeps_no_scores_computes_seven_products_where_six_are_counted():
    """splash: two forwards; scores, their gradient, and those of queries, keys and values backwards."""
    decoder = dataclasses.replace(RELEASE.model.decoder, attention="splash", remat="none")
    flops = step_flops(
        dataclasses.replace(RELEASE, model=dataclasses.replace(RELEASE.model, decoder=decoder))
    )
    half = flops.attention / 2
    assert flops.executed - flops.causal == pytest.approx(half * 7 / 6 - half)


def test_frozen_parts_cost_less_and_the_tower_counts_by_chunks():
    warmup = step_flops(dataclasses.replace(RELEASE, stage="warmup"))
    pretrain = step_flops(RELEASE)
    assert warmup.decoder == pytest.approx(pretrain.decoder * 4 / 6) and warmup.head == pretrain.head
    # The tower is 648 million parameters, of which the layers meet each of a chunk's 13 tokens once.
    assert pretrain.tower == pytest.approx(2 * 64 * 13 * 630e6, rel=0.4)


def test_gpu_slices_are_planned_without_a_gpu_by_an_estimate():
    gpu = Target(cpu_devices(8), find_slice("8xh100"))
    train = dataclasses.replace(RELEASE, mesh=MeshConfig(), batch=BatchShape(8, 8192, 64))
    result = plan(train, gpu)
    assert result["memory_is"] == "estimated" and "mfu_bound" not in result
    assert result["hbm_gib_per_chip"]["optimizer"] == pytest.approx(8 * 8.27e9 / 8 / 2**30, rel=0.02)
    assert result["fits"] is None and result["hbm_limit_gib_per_chip"] == 79


def test_what_does_not_fit_names_the_knobs_to_turn():
    gpu = Target(cpu_devices(8), find_slice("8xh100"))
    decoder = dataclasses.replace(RELEASE.model.decoder, remat="none")
    train = dataclasses.replace(
        RELEASE,
        mesh=MeshConfig(),
        batch=BatchShape(64, 8192, 64),
        model=dataclasses.replace(RELEASE.model, decoder=decoder),
    )
    result = plan(train, gpu)
    assert result["fits"] is False
    assert any("remat = 'full'" in knob for knob in result["advice"])
    assert any("accumulation = 8" in knob for knob in result["advice"])
    copies = dataclasses.replace(train, mesh=MeshConfig(replica=8, fsdp=1))
    assert any("MeshConfig.fsdp" in knob for knob in plan(copies, gpu)["advice"])


@pytest.mark.parametrize(
    "message",
    [
        "Used 20.50G of 15.75G hbm. Exceeded by 4.75G.",
        "the total memory required for HLO temporaries (20.50G) exceeds available HBM (15.75G).",
    ],
)
def test_a_step_that_the_compiler_refuses_is_reported_with_what_it_would_take(monkeypatch, message):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: Ran out of memory on HBM, {message}")

    monkeypatch.setattr(planning, "compile_step", refuse)
    result = plan(TRAIN, Target(cpu_devices(2), find_slice("2xv5e:1x1"), "2xv5e:1x1"))
    assert result["fits"] is False and result["hbm_gib_per_chip"]["total"] == 20.5 and result["advice"]
    assert "roofline_seconds" not in result and "DOES NOT FIT 15.75" in table(result)


def test_other_compiler_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: Mosaic failed to compile")

    monkeypatch.setattr(planning, "compile_step", refuse)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Mosaic"):
        plan(TRAIN, Target(cpu_devices(2), None))


def test_unknown_slices_and_impossible_meshes_are_clear_errors():
    with pytest.raises(PlanError, match="unknown slice 'v9x:7'.*v5e:4x4"):
        target(PlanConfig(TRAIN, topology="v9x:7"))
    with pytest.raises(ValueError, match="does not fit 3 devices"):
        plan(TRAIN, Target(cpu_devices(3), None))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is there")
def test_a_tpu_slice_without_libtpu_is_a_clear_error():
    with pytest.raises(PlanError, match=r"pip install 'jax\[tpu\]'"):
        target(PlanConfig(TRAIN, topology="v5e:2x2"))


@pytest.mark.parametrize(
    "result, code",
    [
        ({"fits": True, "mixture": {"valid": None}}, 0),
        ({"fits": None, "mixture": {"valid": True}}, 0),
        ({"fits": False, "mixture": {"valid": False}}, 3),
        ({"fits": True, "mixture": {"valid": False}}, 4),
    ],
)
def test_exit_codes(monkeypatch, result, code):
    monkeypatch.setattr(job, "make", lambda config: result)
    monkeypatch.setattr(job, "table", lambda result: "")
    assert job.main(["--gin_file=gin/runs/nano_pretrain.gin"]) == code


def test_short_flags_are_bindings():
    assert job.expand(["--search", "--hlo", "--json=a", "--gin.X.y=1"]) == [
        "--gin.PlanConfig.search=True",
        "--gin.PlanConfig.hlo=True",
        "--gin.PlanConfig.json=a",
        "--gin.X.y=1",
    ]


@pytest.mark.slow
@LIBTPU
def test_two_layers_of_the_release_compile_for_v5e_with_splash(caplog):
    decoder = DecoderConfig(layers=2, attention="splash")
    model = BagpiperConfig(decoder, dataclasses.replace(BagpiperConfig().tower, layers=2))
    train = TrainConfig("out", "lock", model=model, mesh=MeshConfig(), batch=BatchShape(4, 2048, 8))
    result = plan(train, target(PlanConfig(train, topology="v5e:2x2")))
    assert result["chips"] == 4 and result["fits"] is True and 0 < result["mfu_bound"] <= 1
    held = result["hbm_gib_per_chip"]
    assert held["parameters"] > 1.5 and held["total"] > held["parameters"] + held["optimizer"]
    assert "no report of its memory" not in caplog.text


@pytest.mark.slow
def test_the_job_plans_the_nano_run(tmp_path):
    command = [sys.executable, "-m", "bagpiper_jax", "plan", "--gin_file=gin/runs/nano_pretrain.gin"]
    command += ["--devices=2", f"--json={tmp_path / 'plan.json'}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ)
    assert done.returncode in (0, 4), done.stderr[-2000:]
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["chips"] == 2 and "GiB per chip, compiled" in done.stdout
