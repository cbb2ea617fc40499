"""LoRA: step 0 is the base, the adapter alone trains and is saved, the same on every mesh, faults by name."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapter_helpers import (
    EVERYTHING,
    LORA,
    adapter_config,
    mesh_of,
    on_host,
    random_parameters,
    save_base,
    trained,
)
from etils import epath
from flax import nnx
from training_helpers import CONFIG, MODEL, SyntheticLoader, make_batch, with_

from bagpiper_jax import parallel
from bagpiper_jax.models import fingerprints
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.adapters.lora import AdapterError, LoraConfig
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.checkpoints import Checkpoints, find_checkpoint
from bagpiper_jax.training.flops import step_flops
from bagpiper_jax.training.loop import train
from bagpiper_jax.training.state import create_state, model_definition, model_shapes
from bagpiper_jax.training.step import compile_step, make_train_step
from bagpiper_jax.training.tables import require_start, starting_parameters, with_base
from bagpiper_jax.training.weights import read_weights

ONE = MeshConfig(fsdp=1)


@pytest.fixture(scope="module")
def given():
    return random_parameters()


@pytest.fixture(scope="module")
def base(given, tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "base", given)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A run of four steps on eight devices."""
    return trained(adapter_config(base, tmp_path_factory.mktemp("run")))


def hidden(parameters, dropout: float = 0.0):
    @jax.jit
    def compute(parameters):
        model = nnx.merge(model_definition(MODEL), unflatten(lora.joined(parameters, dropout)))
        return model.hidden(jax.tree.map(jnp.asarray, make_batch(0)))

    return np.asarray(compute(parameters))


def disturbed(parameters, seed: int = 0):
    """With changes that are not zero."""
    random = np.random.default_rng(seed)
    return {
        path: jnp.asarray(random.normal(size=x.shape) * 0.1, jnp.float32)
        if path.startswith(lora.TRAINED)
        else x
        for path, x in parameters.items()
    }


@pytest.mark.parametrize("remat", ["none", "full"])
def test_step_0_is_the_base_bit_for_bit(given, remat):
    decoder = dataclasses.replace(MODEL.decoder, remat=remat)
    definition = model_definition(dataclasses.replace(MODEL, decoder=decoder))

    @jax.jit
    def compute(parameters):
        model = nnx.merge(definition, unflatten(lora.joined(parameters)))
        return model.hidden(jax.tree.map(jnp.asarray, make_batch(0)))

    begun = lora.attached(EVERYTHING, {n: jnp.asarray(x) for n, x in given.items()}, seed=0)
    assert len(lora.targets_of(begun)) == 9
    np.testing.assert_array_equal(compute(begun), compute(given))
    assert (np.asarray(compute(disturbed(begun))) != np.asarray(compute(begun))).any()


def test_a_change_is_what_the_paper_says(given):
    """Against the matrices with α/r · a · b added by NumPy in float64, also under rsLoRA."""
    for config in (EVERYTHING, dataclasses.replace(EVERYTHING, rank_stabilised=True)):
        changed = disturbed(lora.attached(config, {n: jnp.asarray(x) for n, x in given.items()}, 0))
        scale = config.alpha / (math.sqrt(config.rank) if config.rank_stabilised else config.rank)
        merged = dict(given)
        for path in lora.targets_of(changed):
            a, b, _ = (np.asarray(x, np.float64) for x in lora.change_of(changed, path))
            merged[path] = np.float32(given[path] + (scale * a @ b).reshape(given[path].shape))
        expected, found = hidden(merged), hidden(changed)
        assert np.abs(found - expected).max() < 1e-6 * max(1, np.abs(expected).max())


def test_only_the_adapter_trains_is_saved_and_names_its_base(base, given, run):
    told = load_model_config(run)[1]["adapter"]
    assert told["rank"] == 4 and len(told["attached"]) == 7 and told["base"] == str(base)
    stored = find_checkpoint(run) / "parameters"
    size = sum(file.stat().st_size for file in Path(stored).rglob("*") if file.is_file())
    assert size < sum(x.nbytes for x in given.values()), "the base is not in the checkpoint"
    found = read_weights(run, MODEL)
    changed = lora.own(found)
    assert fingerprints.shown(changed[lora.BASE]) == told["base_fingerprint"]
    for path in lora.targets_of(found):
        assert np.asarray(changed[f"lora/{path}/b"]).any(axis=(-1, -2)).all(), (
            f"{path}: a layer did not train"
        )
    for path, x in given.items():
        np.testing.assert_array_equal(found[path], x, err_msg=path)


def test_optimizer_state_is_the_adapters(base):
    config = adapter_config(base, mesh=ONE, stage="sft")
    state = create_state(config, mesh_of(config), {n: jnp.asarray(x) for n, x in random_parameters().items()})
    moments = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
    assert moments == 2 * sum(x.size for x in state.trainable.values())
    assert all(path.startswith("lora/") for path in state.trainable)
    assert step_flops(config).decoder == pytest.approx(step_flops(with_(stage="sft")).decoder * 2 / 3)


def losses(config, parameters, count=3):
    mesh = mesh_of(config)
    # Copies: an adapter's base is donated.
    state = create_state(config, mesh, {n: jnp.array(x) for n, x in parameters.items()})
    step = compile_step(make_train_step(config, mesh), config, mesh)
    found = []
    for number in range(count):
        state, metrics = step(state, jax.device_put(make_batch(number), parallel.batch_sharding(mesh)))
        found.append(float(metrics.sums.total / metrics.sums.frames))
    return found, state


@pytest.fixture(scope="module")
def one_device(given):
    return losses(adapter_config("base", adapter=EVERYTHING, mesh=ONE), given)


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=2, sequence=2, tensor=2)])
def test_every_mesh_trains_alike(given, one_device, mesh):
    found, state = losses(adapter_config("base", adapter=EVERYTHING, mesh=mesh), given)
    np.testing.assert_allclose(found, one_device[0], rtol=1e-5)
    for end in ("up/a", "up/b", "down/a", "down/b"):
        divided = state.trainable[f"lora/decoder/layers/ffn/{end}"]
        assert (
            divided.addressable_shards[0].data.size * (4 if end in ("up/a", "down/b") else 8) == divided.size
        )


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.02), ("int8", 0.05)])
def test_a_base_in_fewer_bytes_trains_alike(given, one_device, precision, tolerance):
    narrow = dataclasses.replace(EVERYTHING, base=precision)
    found, state = losses(adapter_config("base", adapter=narrow, mesh=MeshConfig(fsdp=2, tensor=2)), given)
    np.testing.assert_allclose(found, one_device[0], rtol=tolerance)
    kept = jax.tree.leaves(state.frozen["decoder/layers/ffn/up"])[0]
    assert kept.dtype == ("int8" if precision == "int8" else "bfloat16")
    assert kept.addressable_shards[0].data.size * 4 == kept.size


def test_dropout_changes_training_alone_and_is_drawn_by_the_step(given, one_device):
    config = adapter_config("base", adapter=dataclasses.replace(EVERYTHING, dropout=0.5), mesh=ONE)
    first, again = losses(config, given)[0], losses(config, given)[0]
    assert first == again and first[0] == pytest.approx(one_device[0][0], rel=1e-6), (
        "b is zero in the first step"
    )
    assert first[-1] != pytest.approx(one_device[0][-1], rel=1e-6)
    changed = disturbed(lora.attached(EVERYTHING, {n: jnp.asarray(x) for n, x in given.items()}, 0))
    np.testing.assert_array_equal(hidden(changed, 0.5), hidden(changed))
    drawn = [hidden(lora.with_draw(changed, jax.random.key(seed)), 0.5) for seed in range(2)]
    assert (drawn[0] != drawn[1]).any()


def test_a_run_resumes_bit_for_bit_and_on_another_mesh(base, run, tmp_path):
    config = adapter_config(base, tmp_path / "run")
    trained(with_(config, steps=2))
    trained(config)
    whole, parts = (lora.own(read_weights(each, MODEL)) for each in (run, tmp_path / "run"))
    for path, x in whole.items():
        np.testing.assert_array_equal(parts[path], x, err_msg=path)
    other = adapter_config(base, run, mesh=MeshConfig(fsdp=2))
    mesh = mesh_of(other)
    with Checkpoints(epath.Path(run) / "checkpoints") as checkpoints:
        from bagpiper_jax.training.state import abstract_state

        state = with_base(checkpoints.restore(4, abstract_state(other, mesh))[0], other, mesh)
    assert state.parameters.keys() == model_shapes(MODEL).keys() | whole.keys()
    for path, x in whole.items():
        np.testing.assert_array_equal(state.parameters[path], x, err_msg=path)


def test_another_base_is_refused(given, run, tmp_path):
    others = {path: x + 0.01 if path.endswith("ffn/up") else x for path, x in given.items()}
    other = save_base(tmp_path / "other", others)
    with pytest.raises(
        AdapterError, match="an adapter of another base: it was trained on .*; name the checkpoint"
    ):
        read_weights(run, MODEL, base=str(other))
    with pytest.raises(AdapterError, match="another base"):
        train(adapter_config(other, run, steps=5), SyntheticLoader())


def test_a_full_run_and_no_adapter_begins_from_an_adapter(run, tmp_path):
    mesh = mesh_of(CONFIG)
    changed = on_host(read_weights(run, MODEL))
    merged = on_host(starting_parameters(run, MODEL, mesh))
    assert merged.keys() == model_shapes(MODEL).keys()
    expected = hidden({n: jnp.asarray(x) for n, x in changed.items()})
    assert np.abs(hidden(merged) - expected).max() < 1e-6 * np.abs(expected).max()
    with pytest.raises(AdapterError, match="is an adapter itself; export it merged"):
        train(adapter_config(run, tmp_path / "run"), SyntheticLoader())


def test_fingerprints_tell_parameters_not_files(given):
    half = {path: jnp.asarray(x, jnp.bfloat16) for path, x in given.items()}
    expected = fingerprints.of_parameters(given)
    assert (fingerprints.of_parameters(half) == expected).all()
    parts = fingerprints.Fingerprint()
    for path, x in given.items():
        for start in range(0, len(x), 5):
            parts.add(path, x[start : start + 5])
    assert (parts.value() == expected).all()
    name = "decoder/layers/ffn/up"
    assert int(fingerprints._on_device(jnp.asarray(given[name]))) == int(fingerprints.checksum(given[name]))
    assert (fingerprints.of_parameters(given | {name: given[name] * 1.01}) != expected).any()


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: LoraConfig(rank=0), "rank is 0; a change needs a rank of at least 1"),
        (lambda: LoraConfig(dropout=1.0), "dropout 1.0 must be"),
        (lambda: LoraConfig(targets=("decoder/(",)), "is no pattern"),
        (lambda: with_(adapter=LORA), "name it with TrainConfig.init_from"),
        (
            lambda: require_start(adapter_config("x", adapter=LoraConfig(targets=("model.layers.*",)))),
            "'model.layers.*' matches nothing that can have an adapter; there are decoder/layers/attention/query",
        ),
        (
            lambda: require_start(adapter_config("x", adapter=LoraConfig(targets=("decoder/.*", "lm_head")))),
            "'lm_head' matches nothing",
        ),
        (lambda: lora.paths(LoraConfig(targets=()), model_shapes(MODEL)), "matches nothing"),
    ],
)
def test_mistakes_are_named(make, says):
    with pytest.raises(AdapterError, match=says):
        make()
