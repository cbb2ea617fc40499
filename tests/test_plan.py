"""The plan of a run: memory and FLOPs from the train step itself, for virtual CPU devices and for absent TPUs."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from bagpiper_jax.data.batch import BatchShape
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.plan import PlanConfig, PlanError, flops_per_step, plan

TRAIN = TrainConfig(
    "out",
    "lock",
    model=tiny_models.MODEL,
    mesh=MeshConfig(fsdp=2),
    batch=BatchShape(4, 32, 2, 20),
    stage="scratch",
)


def test_plan_for_cpu_devices_counts_the_state_exactly():
    result = plan(PlanConfig(TRAIN, devices=2))
    parameters = sum(x.size for x in tiny_models.parameters(tiny_models.random_model()).values())
    memory = result["hbm_gib_per_chip"]
    assert result["chips"] == 2 and result["fits"] is None
    # Nearly all of it is sharded by two; moments take twice the parameters.
    assert 0.5 <= memory["parameters"] * 2**30 / (4 * parameters) <= 0.75
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.1)
    assert memory["total"] > memory["parameters"] + memory["optimizer"] and memory["temporaries"] > 0


def test_flops_of_the_release_are_six_per_parameter_and_token():
    # 8.27e9 trainable, less the embedding table, which costs no product (reference section 3.4)
    train = dataclasses.replace(TRAIN, model=BagpiperConfig(), batch=BatchShape(1, 8192, 1), stage="pretrain")
    flops = flops_per_step(train)
    products = 8_268_432_384 - 160_392 * 4096
    attention = 6 * 8192**2 * 2 * 4096 * 36
    assert flops["full"] == pytest.approx(6 * 8192 * products + attention, rel=0.005)
    assert flops["causal"] == pytest.approx(flops["full"] - attention / 2)
    assert flops["full"] == flops["decoder"] + flops["tower"] + flops["head"]


def test_an_impossible_topology_is_a_clear_error():
    with pytest.raises(PlanError, match="topology 'v9x:7'.*v5e:4x4"):
        plan(PlanConfig(TRAIN, topology="v9x:7"))


def test_a_mesh_that_does_not_fit_is_a_clear_error():
    with pytest.raises(ValueError, match="does not fit 3 devices"):
        plan(PlanConfig(TRAIN, devices=3))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_two_layers_of_the_release_compile_for_v5e_with_splash():
    decoder = DecoderConfig(layers=2, attention="splash")
    model = BagpiperConfig(decoder, dataclasses.replace(BagpiperConfig().tower, layers=2))
    train = TrainConfig("out", "lock", model=model, mesh=MeshConfig(), batch=BatchShape(4, 2048, 8))
    result = plan(PlanConfig(train, topology="v5e:2x2"))
    assert result["chips"] == 4 and result["fits"] is True
    assert result["hbm_gib_per_chip"]["parameters"] > 1.5


@pytest.mark.slow
def test_the_job_plans_the_nano_run(tmp_path):
    command = [sys.executable, "-m", "bagpiper_jax.plan", "--gin_file=gin/runs/nano_pretrain.gin"]
    command += ["--devices=2", f"--json={tmp_path / 'plan.json'}"]
    repository = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "plan.json").read_text())["chips"] == 2
