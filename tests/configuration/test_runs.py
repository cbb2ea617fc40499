"""The gin runs: each one means what its golden file says, and sizes, stages and slices compose."""

import dataclasses
import itertools
import math

import golden_runs
import pytest

from bagpiper_jax import configuration
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.runs import chips
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.optimizer import OptimizerConfig

SIZES = ("0.6b", "1.7b", "4b", "8b", "14b", "32b")
STAGES = ("warmup", "pretrain", "sft")
SLICES = ("v4_128", "v5e_256", "v5p_128", "v5p_512", "v6e_256", "v6e_256_x2", "h200", "h100_x8")
BUDGETS = {"warmup": 10_000 * 128 * 8192, "pretrain": 600_000 * 128 * 8192, "sft": 50_000 * 32 * 8192}
RELEASE_RUNS = [r for r in golden_runs.training_runs() if r.split("_")[0] in STAGES]

# Parameters of the text models, embedding and untied head left out, in billions (Qwen3's cards, "non-embedding").
NON_EMBEDDING = {"0.6b": 0.44, "1.7b": 1.4, "4b": 3.6, "8b": 6.95, "14b": 13.2, "32b": 31.2}


@pytest.mark.parametrize("run", golden_runs.training_runs())
def test_a_run_means_what_its_golden_file_says(run):
    golden = golden_runs.GOLDEN / f"{run}.gin"
    assert golden.exists() and golden.read_text() == golden_runs.operative(run), (
        f"what gin/runs/{run}.gin means has changed; if that is wanted: {golden_runs.COMMAND}, and commit the diff"
    )


def test_no_golden_file_outlives_its_run():
    assert sorted(p.stem for p in golden_runs.GOLDEN.glob("*.gin")) == golden_runs.training_runs()


@pytest.mark.parametrize("size, stage", list(itertools.product(SIZES, STAGES)))
def test_sizes_stages_and_slices_compose(size, stage):
    for name in SLICES:
        files = [f"gin/models/{size}.gin", f"gin/stages/{stage}.gin", f"gin/slices/{name}.gin"]
        config = configuration.build(TrainConfig, files, ["TrainConfig.output='x'"])
        slice_ = chips.find_slice(config.slice)
        assert abs(config.steps * config.batch.rows * config.batch.slots / BUDGETS[stage] - 1) < 1e-3, name
        assert config.optimizer.decay_end == config.steps
        assert math.isclose(config.optimizer.warmup_steps / config.steps, _warmup_share(stage), rel_tol=0.01)
        assert config.batch.rows % (config.accumulation * slice_.chips) == 0, name
        assert config.mesh.replica == slice_.slices


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_those_of_qwen3(size):
    d = configuration.build(
        TrainConfig, ["gin/runs/pretrain_8b_v5p_128.gin", f"gin/models/{size}.gin"]
    ).model.decoder
    attention = d.width * d.head_width * 2 * (d.heads + d.kv_heads)
    total = d.layers * (attention + 3 * d.width * d.ffn_width)
    assert total / 1e9 == pytest.approx(NON_EMBEDDING[size], rel=0.02)


@pytest.mark.parametrize("run", RELEASE_RUNS)
def test_runs_of_a_stage_see_as_many_tokens_whatever_the_slice(run):
    config = configuration.build(TrainConfig, [f"gin/runs/{run}.gin"])
    tokens = config.steps * config.batch.rows * config.batch.slots
    assert tokens == BUDGETS[config.stage]
    assert config.optimizer.decay_end == config.steps
    assert math.isclose(
        config.optimizer.warmup_steps / config.steps, _warmup_share(config.stage), rel_tol=1e-6
    )


def _warmup_share(stage: str) -> float:
    return {"warmup": 100 / 10_000, "pretrain": 5000 / 600_000, "sft": 1000 / 50_000}[stage]


@pytest.mark.parametrize("name, kind, count", [("v5p-128", "TPU v5", 64), ("2xv6e:4x4", "TPU v6 lite", 32)])
def test_slices_are_found_by_name_and_by_topology(name, kind, count):
    found = chips.find_slice(name)
    assert (found.kind, found.chips) == (kind, count)


def test_an_unknown_slice_is_a_clear_error():
    with pytest.raises(ValueError, match="unknown slice 'v9x:7'.*v5e:4x4"):
        chips.find_slice("v9x:7")


@pytest.mark.parametrize(
    "kind, flops", [("TPU v5", 459e12), ("TPU v5 lite", 197e12), ("NVIDIA H100 80GB HBM3", 989e12)]
)
def test_chips_are_known_by_their_device_kind(kind, flops):
    assert chips.chip_of(kind).flops == flops
    assert chips.chip_of("cpu") is None


SFT = ["gin/models/0.6b.gin", "gin/stages/sft.gin", "gin/slices/v5e_256.gin"]


def test_steps_that_are_given_end_a_run_whose_stage_states_tokens():
    config = configuration.build(TrainConfig, SFT, ["TrainConfig.output='x'", "TrainConfig.steps=10"])
    assert (config.steps, config.optimizer.warmup_steps, config.optimizer.decay_end) == (10, 125, 6250)


def test_without_tokens_nothing_is_stretched():
    config = configuration.build(
        TrainConfig, [], ["TrainConfig.output='x'", "TrainConfig.train_lock='y'", "TrainConfig.steps=7"]
    )
    assert (config.steps, config.optimizer) == (7, OptimizerConfig())
    assert TrainConfig("x", "y").steps == 600_000


def test_another_batch_takes_other_steps_to_as_many_tokens():
    batch, rate = BatchShape(rows=8, slots=100, chunks=1), OptimizerConfig(warmup_steps=10, decay_end=100)
    config = TrainConfig("x", "y", batch=batch, optimizer=rate, tokens=160_001)
    assert config.steps == config.optimizer.decay_end == 201 and config.optimizer.warmup_steps == 20
    again = dataclasses.replace(config, seed=1)
    assert (again.steps, again.optimizer) == (config.steps, config.optimizer)
    small = TrainConfig("x", "y", batch=batch, optimizer=dataclasses.replace(rate, warmup_steps=0), tokens=1)
    assert (small.steps, small.optimizer.warmup_steps, small.optimizer.decay_end) == (1, 0, 1)


@pytest.mark.parametrize("wrong", [{"tokens": -1}, {"steps": 0}, {"steps": -3}])
def test_impossible_lengths_are_refused(wrong):
    with pytest.raises(ValueError, match="tokens|steps"):
        TrainConfig("x", "y", **wrong)
