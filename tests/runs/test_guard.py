"""Steps with a broken loss or gradient: skipped inside the compiled step, counted, named, and the end of a run."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import CONFIG, SHAPE, SyntheticLoader, with_

from bagpiper_jax import parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.faults import TrainingError
from bagpiper_jax.runs.guard import Guard, GuardConfig, judge
from bagpiper_jax.training.loop import train
from bagpiper_jax.training.optimizer import learning_rate
from bagpiper_jax.training.state import create_state
from bagpiper_jax.training.step import compile_step, make_train_step


class Broken(SyntheticLoader):
    """Batches `at` have weights multiplied by `factor`."""

    def __init__(self, factor: float, at):
        super().__init__()
        self.factor, self.at = factor, at

    def batch(self, step):
        batch = super().batch(step)
        batch.loss_weights[batch.loss_weights != 0] *= self.factor if step in self.at else 1
        return batch


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def compiled():
    mesh = parallel.make_mesh(CONFIG.mesh, jax.devices()[:1])
    return mesh, compile_step(make_train_step(CONFIG, mesh), CONFIG, mesh)


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing_but_counters(compiled, factor):
    mesh, step = compiled
    state = create_state(CONFIG, mesh)
    for index in range(3):
        state, metrics = step(state, SyntheticLoader().batch(index))
    before = jax.device_get(state)
    state, metrics = step(state, Broken(factor, [3]).batch(3))
    after = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, before.trainable, after.trainable)
    floats = lambda tree: [x for x in jax.tree.leaves(tree) if x.dtype.kind == "f"]  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, floats(before.opt_state), floats(after.opt_state))
    assert (int(after.step), int(after.guard.skipped), int(after.guard.in_a_row)) == (4, 1, 1)
    assert float(after.guard.norm) == float(before.guard.norm)
    state, metrics = step(state, SyntheticLoader().batch(4))
    assert int(metrics.guard.in_a_row) == 0 and int(metrics.guard.skipped) == 1
    assert float(metrics.learning_rate) == pytest.approx(float(learning_rate(CONFIG.optimizer, 4)))
    assert any(np.any(np.asarray(state.trainable[k]) != x) for k, x in after.trainable.items())


def test_a_spike_is_judged_by_the_mean_of_accepted_steps():
    config, guard = GuardConfig(spike=3.0, memory=4), Guard.new()
    verdicts = []
    for norm in (1.0, 50.0, 1.0, 2.0, 13.5 * 3 + 0.1, 13.5 * 3 - 0.1, 2.0):
        good, guard = judge(guard, config, jnp.float32(1), jnp.float32(norm))
        verdicts.append(bool(good))
    # Until four are accepted nothing is a spike; their mean is then 13.5.
    assert verdicts == [True, True, True, True, False, True, True]
    assert (int(guard.accepted), int(guard.skipped)) == (6, 1)
    good, _ = judge(guard, GuardConfig(spike=0, memory=1), jnp.float32(1), jnp.float32(1e30))
    assert bool(good)


def test_the_run_goes_on_and_names_the_batch(tmp_path, caplog):
    config = with_(mesh=MeshConfig(fsdp=8), output=str(tmp_path), log_every=4, validate_every=0, save_every=0)
    with caplog.at_level(logging.WARNING, "bagpiper_jax"):
        assert train(config, Broken(np.nan, [2, 4]))
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [4, 6]
    assert [line["skipped_steps"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]
    skipped = lines(tmp_path / "skipped.jsonl")
    assert [(line["step"], line["batch"], line["loss"]) for line in skipped] == [(3, 2, "nan"), (5, 4, "nan")]
    assert skipped[0]["rows"] == [[f"synthetic:{2 * SHAPE.rows + row}"] for row in range(SHAPE.rows)]
    assert "step 3 changed nothing: loss nan" in caplog.text


def test_too_many_in_a_row_end_the_run_with_the_last_good_checkpoint(tmp_path):
    config = with_(
        mesh=MeshConfig(fsdp=8), output=str(tmp_path), steps=20, save_every=2, guard=GuardConfig(patience=3)
    )
    with pytest.raises(
        TrainingError, match="3 steps in a row were skipped, the last one is step 7.*skipped.jsonl"
    ):
        train(config, Broken(np.nan, range(4, 20)))
    assert len(lines(tmp_path / "skipped.jsonl")) == 3
    assert train(config, SyntheticLoader()), "with the data mended, the run continues"


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"memory": 0}, {"spike": 0.5}])
def test_bad_settings(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        GuardConfig(**wrong)
