"""The train step: the same on every mesh, independent of packing and accumulation, frozen parts untouched."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import CONFIG, SHAPE, VOCABULARY, make_batch, make_document, pack, random_rows, with_

from bagpiper_jax import parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training import partition
from bagpiper_jax.training.objectives.next_token import next_token
from bagpiper_jax.training.state import create_state
from bagpiper_jax.training.step import compile_step, make_train_step, trace_step


def mesh_of(config):
    count = config.mesh.fsdp * config.mesh.tensor * config.mesh.replica
    return parallel.make_mesh(config.mesh, jax.devices()[:count])


def run(config, batches):
    """(final state, metrics per step) on the mesh of `config`."""
    mesh = mesh_of(config)
    state, step = create_state(config, mesh), compile_step(make_train_step(config, mesh), config, mesh)
    metrics = []
    for batch in batches:
        state, new = step(state, jax.device_put(batch, parallel.batch_sharding(mesh)))
        metrics.append(jax.device_get(new))
    return state, metrics


def loss(metrics) -> float:
    return float(metrics.sums.total / metrics.sums.frames)


@pytest.fixture(scope="module")
def one_device():
    return run(CONFIG, [make_batch(0), make_batch(0), make_batch(1)])


def test_loss_falls(one_device):
    losses = [loss(m) for m in one_device[1]]
    assert losses[0] == pytest.approx(np.log(VOCABULARY.size), rel=0.2)
    losses = [loss(m) for m in run(with_(steps=10), [make_batch(0)] * 10)[1]]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=4, tensor=2), MeshConfig(fsdp=1, tensor=2)])
def test_many_devices_agree_with_one(one_device, mesh):
    """Against one device, float32: losses over three steps to 1e-5 relative."""
    state, metrics = run(with_(mesh=mesh), [make_batch(0), make_batch(0), make_batch(1)])
    for ours, theirs in zip(metrics, one_device[1], strict=True):
        assert loss(ours) == pytest.approx(loss(theirs), rel=1e-5)
        assert float(ours.gradient_norm) == pytest.approx(float(theirs.gradient_norm), rel=1e-4)
    embedding = state.trainable[partition.EMBEDDING]
    shard = embedding.addressable_shards[0].data
    assert shard.size * mesh.fsdp * mesh.tensor == embedding.size, (
        "the embedding table is not sharded over all devices"
    )


def test_packed_documents_have_the_loss_they_have_alone(one_device):
    documents = [d for row in random_rows(3) for d in row]
    function = jax.jit(next_token(CONFIG))
    parameters = one_device[0].parameters
    packed = jax.device_get(function(parameters, make_batch(3)))
    alone = [jax.device_get(function(parameters, pack([[d]] + [[]] * (SHAPE.rows - 1)))) for d in documents]
    assert packed.frames == sum(s.frames for s in alone)
    np.testing.assert_allclose(packed.total, sum(s.total for s in alone), rtol=1e-5)
    np.testing.assert_allclose(packed.stream, sum(s.stream for s in alone), rtol=1e-5)


def test_accumulation_equals_one_batch():
    """Micro-batches of very different token counts weigh by their frames, not one each."""
    rng = np.random.default_rng(0)
    rows = [[make_document(rng, 40)] if r % 4 == 0 else [make_document(rng, 5)] for r in range(SHAPE.rows)]
    whole, metrics = run(CONFIG, [pack(rows)] * 2)
    parts, others = run(with_(accumulation=4), [pack(rows)] * 2)
    assert loss(others[1]) == pytest.approx(loss(metrics[1]), rel=1e-5)
    assert float(others[0].gradient_norm) == pytest.approx(float(metrics[0].gradient_norm), rel=1e-5)


def test_accumulation_over_a_mesh_equals_one_device(one_device):
    config = with_(accumulation=2, mesh=MeshConfig(fsdp=4, tensor=2))
    _, metrics = run(config, [make_batch(0)])
    assert loss(metrics[0]) == pytest.approx(loss(one_device[1][0]), rel=1e-5)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_model_is_traced_once(accumulation):
    """Tracing a large model takes longer than many a step."""
    config, traced = with_(accumulation=accumulation), []

    def noting(parameters, batch, seen=None):
        traced.append(batch.tokens.shape[0])
        return next_token(config)(parameters, batch, seen)

    mesh = mesh_of(config)
    with jax.set_mesh(mesh):
        trace_step(make_train_step(config, mesh, noting), config, mesh)
    assert traced == [SHAPE.rows // accumulation]


@pytest.mark.parametrize("stage", partition.STAGES)
def test_frozen_parameters_stay_and_own_no_optimizer_state(stage):
    config = with_(stage=stage)
    before = jax.device_get(create_state(config, mesh_of(config)))
    after = jax.device_get(run(config, [make_batch(0), make_batch(1)])[0])
    for name, value in before.frozen.items():
        np.testing.assert_array_equal(after.frozen[name], value, err_msg=name)
    for name, value in before.trainable.items():
        assert (after.trainable[name] != value).any(), f"{name} did not train"
    moments = [x for x in jax.tree.leaves(after.opt_state) if x.ndim]
    assert sum(x.size for x in moments) == 2 * sum(x.size for x in after.trainable.values())
    frozen = {name.split("/")[0] for name in before.frozen}
    assert frozen == {"scratch": set(), "warmup": {"decoder", "tower"}}.get(stage, {"tower"})


@pytest.mark.parametrize("stage", ["scratch", "warmup"])
def test_embedding_rows_that_stay(stage):
    config = with_(stage=stage)
    before = np.asarray(create_state(config, mesh_of(config)).trainable[partition.EMBEDDING])
    after = np.asarray(run(config, [make_batch(0), make_batch(1)])[0].trainable[partition.EMBEDDING])
    changed = (before != after).any(axis=1)
    assert not changed[0]
    assert changed[VOCABULARY.text_start : VOCABULARY.codec_start].any() == (stage == "scratch")
    assert changed[VOCABULARY.codec_start :].any()


@pytest.mark.parametrize(
    "frozen", [("tower/", partition.EMBEDDING), ("decoder/", "tower/", "lm_head"), ("stream_emb", "adaptor/")]
)
def test_a_partition_that_no_stage_has(monkeypatch, frozen):
    """What trains is data: an adapter, a head or a table alone is one more value of it."""
    name = f"all but {', '.join(frozen)}"  # the shapes of a state are kept by the run's configuration
    monkeypatch.setitem(partition.STAGES, name, partition.Partition(frozen))
    config = with_(stage=name)
    before = jax.device_get(create_state(config, mesh_of(config)))
    after = jax.device_get(run(config, [make_batch(0)] * 2)[0])
    assert before.frozen and all(name.startswith(frozen) for name in before.frozen)
    assert not any(name.startswith(frozen) for name in before.trainable)
    for name, value in before.frozen.items():
        np.testing.assert_array_equal(after.frozen[name], value, err_msg=name)
    assert all((after.trainable[name] != value).any() for name, value in before.trainable.items())


@pytest.mark.parametrize(
    "frozen, says", [(("towr/",), "'towr/' is to stay frozen"), (("",), "nothing trains")]
)
def test_a_partition_that_fits_no_model_is_named(frozen, says):
    with pytest.raises(ValueError, match=says):
        partition.Partition(frozen).split({"tower/x": np.zeros(1)})


def test_the_step_minimises_the_objective_that_it_is_given(one_device):
    """Twice the loss: twice the gradient, and the same number of frames."""

    def twice(parameters, batch, seen=None):
        sums = next_token(CONFIG)(parameters, batch, seen)
        return dataclasses.replace(sums, total=2 * sums.total)

    mesh = mesh_of(CONFIG)
    step = compile_step(make_train_step(CONFIG, mesh, twice), CONFIG, mesh)
    batch = jax.device_put(make_batch(0), parallel.batch_sharding(mesh))
    _, metrics = step(create_state(CONFIG, mesh), batch)
    single = one_device[1][0]
    assert float(metrics.gradient_norm) == pytest.approx(2 * float(single.gradient_norm), rel=1e-5)
    assert float(metrics.sums.frames) == float(single.sums.frames)


def test_another_batch_shape_is_an_error_not_a_recompilation():
    mesh = mesh_of(CONFIG)
    step = compile_step(make_train_step(CONFIG, mesh), CONFIG, mesh)
    smaller = jax.tree.map(lambda x: jnp.asarray(x[:4]), make_batch(0))
    with pytest.raises(TypeError, match="compiled"):
        step(create_state(CONFIG, mesh), smaller)


def test_rows_must_divide_over_the_mesh():
    config = with_(accumulation=4, mesh=MeshConfig(fsdp=4, tensor=2))
    with pytest.raises(ValueError, match="2 rows per micro-batch do not divide over 4 data shards"):
        make_train_step(config, mesh_of(config))
