"""What an adapter of the 8B model takes of eight chips besides the step's own work."""

import jax
import pytest

from bagpiper_jax import configuration, parallel
from bagpiper_jax.sizing.memory import GIB, checkpoint_gib, state_bytes
from bagpiper_jax.training.config import TrainConfig

RUNS = ("lora_8b_v5e_8", "lora_8b_v6e_8")
CHANGES = 16 * 36 * 75_776
"""Rank, layers, and inputs and outputs of a layer's seven matrices."""
MODEL = 9_093_843_593 - 177_484_041
"""Of the release, without its codec."""


def state(run: str, base: str):
    train = configuration.build(TrainConfig, [f"gin/runs/{run}.gin"], [f"LoraConfig.base='{base}'"])
    mesh = parallel.make_mesh(train.mesh, jax.devices())
    return train, mesh, state_bytes(train, mesh)


@pytest.mark.parametrize("run", RUNS)
def test_the_base_is_divided_and_only_the_adapter_has_moments(run):
    train, mesh, sizes = state(run, "bfloat16")
    assert train.batch.rows % (train.accumulation * 8) == 0 and train.adapter.rank == 16
    assert 8 * sizes["optimizer"] == pytest.approx(2 * 4 * CHANGES, rel=0.01)
    assert checkpoint_gib(train, mesh) == pytest.approx(3 * 4 * CHANGES / GIB, rel=0.01)
    assert 8 * sizes["parameters"] == pytest.approx(2 * MODEL + 4 * CHANGES, rel=0.01)


def test_int8_halves_the_layers():
    whole, narrow = (state(RUNS[0], base)[2]["parameters"] for base in ("bfloat16", "int8"))
    layers = 36 * 4096 * (2 * 32 * 128 + 2 * 8 * 128 + 3 * 12288)
    assert 8 * (whole - narrow) == pytest.approx(layers, rel=0.01)
