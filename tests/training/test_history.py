"""Disturbed history: what the model sees of its own audio changes, what it must predict does not."""

import dataclasses

import jax
import numpy as np
import pytest
from training_helpers import CONFIG, VOCABULARY, make_batch, with_

from bagpiper_jax import parallel
from bagpiper_jax.batch import BatchShape, empty_batch
from bagpiper_jax.data.placing import RowWriter
from bagpiper_jax.dialogue import Message, RenderConfig, render
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training import history
from bagpiper_jax.training.state import create_state
from bagpiper_jax.training.step import compile_step, make_eval_step, make_train_step

ROWS, SLOTS = 32, 128


@pytest.fixture(scope="module")
def batch():
    """Rows of two dialogues: a caption, then audio whose frames are all different."""
    rng = np.random.default_rng(0)
    batch = empty_batch(ROWS, BatchShape(ROWS, SLOTS, chunks=1), VOCABULARY.num_streams)
    for row in range(ROWS):
        writer = RowWriter(batch, row)
        for frames in (30, 40):
            caption = Message("user", "text", rng.integers(0, VOCABULARY.text_size, 9))
            size = (frames, VOCABULARY.num_streams)
            audio = Message("assistant", "audio", rng.integers(0, VOCABULARY.codebook_size, size))
            example = render([caption, audio], VOCABULARY, RenderConfig())
            writer.place(example, len(example), 0, [])
    return batch


def generated(batch) -> np.ndarray:
    return (batch.tokens[..., 1] != 0) & (batch.loss_weights[..., 0] != 0)


def test_a_share_of_zero_changes_nothing(batch):
    np.testing.assert_array_equal(history.disturb(jax.random.key(0), batch, 0.0), batch.tokens)


def test_only_generated_frames_change_and_each_becomes_another_of_its_row(batch):
    seen = np.asarray(history.disturb(jax.random.key(0), batch, 0.3))
    audio = generated(batch)
    np.testing.assert_array_equal(seen[~audio], batch.tokens[~audio])
    for row in range(ROWS):
        frames = {tuple(frame) for frame in batch.tokens[row][audio[row]].tolist()}
        assert {tuple(frame) for frame in seen[row][audio[row]].tolist()} <= frames


def test_the_share_is_a_mean_over_rows_and_replaced_frames_come_in_runs(batch):
    changed = np.concatenate(
        [
            (np.asarray(history.disturb(jax.random.key(k), batch, 0.3)) != batch.tokens).any(-1)
            for k in range(8)
        ]
    )
    audio = np.tile(generated(batch), (8, 1))
    shares = (changed & audio).sum(1) / audio.sum(1)
    assert shares.mean() == pytest.approx(0.3, abs=0.04)
    assert shares.min() < 0.1 and shares.max() > 0.5
    run = slice(6 * history.RUN, 7 * history.RUN)
    assert audio[:, run].all()
    # a frame may be replaced by itself, in one of 70 draws
    assert np.isin(changed[:, run].sum(1), (0, history.RUN)).mean() > 0.9


def losses(config, batch):
    mesh = parallel.make_mesh(config.mesh, jax.devices()[: config.mesh.fsdp * config.mesh.tensor])
    state, step = create_state(config, mesh), compile_step(make_train_step(config, mesh), config, mesh)
    batch = jax.device_put(batch, parallel.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        validated = make_eval_step(config, mesh)(state, batch)
    state, first = step(state, batch)
    state, second = step(state, batch)
    return [float(sums.total / sums.frames) for sums in (validated, first.sums, second.sums)]


def test_training_sees_it_validation_does_not_and_every_mesh_draws_alike():
    batch = make_batch(0)
    noisy = with_(history_noise=0.4)
    plain, one = losses(CONFIG, batch), losses(noisy, batch)
    assert plain[0] == pytest.approx(plain[1], rel=1e-6) and one[0] == pytest.approx(plain[0], rel=1e-6)
    assert abs(one[1] - plain[1]) > 2e-5
    many = losses(dataclasses.replace(noisy, accumulation=2, mesh=MeshConfig(fsdp=4, tensor=2)), batch)
    assert many == pytest.approx(one, rel=1e-5)


def test_a_share_beyond_half_is_refused():
    with pytest.raises(ValueError, match="history_noise 0.6"):
        with_(history_noise=0.6)
