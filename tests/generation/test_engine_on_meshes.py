"""A run restored straight onto a mesh answers as on one device."""

import dataclasses
import random

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from mixed_dialogues import SMALL, memory_of, require_as_alone
from plain_decoding import CONFIG, GREEDY_AUDIO, GREEDY_TEXT, prompts, random_model
from tiny_models import parameters
from training_helpers import CONFIG as TRAINING

from bagpiper_jax.generation.batch import answer
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.weights import load_model
from bagpiper_jax.parallel import MeshConfig, MeshError, make_mesh
from bagpiper_jax.training.checkpoints import Checkpoints
from bagpiper_jax.training.state import create_state

ENGINE = EngineConfig(rows=4, context=96, page=8, chunk=16, steps=3)
LOOP = LoopConfig(
    dataclasses.replace(GREEDY_TEXT, guidance=2.0), dataclasses.replace(GREEDY_AUDIO, guidance=3.0),
    ("text", "audio"), 2,
)  # fmt: skip
BEGUN = [(), (3, 19), (), (5,), (7, 7, 7)]

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The model of the oracle, saved as training saves it."""
    where = tmp_path_factory.mktemp("run") / "checkpoints"
    config = dataclasses.replace(TRAINING, model=CONFIG)
    given = {name: jax.numpy.asarray(x) for name, x in parameters(random_model()).items()}
    with Checkpoints(where) as checkpoints:
        state = create_state(config, make_mesh(MeshConfig(fsdp=1), jax.devices()[:1]), given)
        checkpoints.save(state, {}, {}, wait=True)
    return where


def answers(core: EngineCore) -> list[np.ndarray]:
    found = answer(core, prompts(), LOOP, begun=BEGUN)
    return [segment.rows for segments in found for segment in segments]


@pytest.fixture(scope="module")
def alone(checkpoint):
    """The answers of one device."""
    return answers(EngineCore(load_model(checkpoint, CONFIG), ENGINE))


@pytest.mark.parametrize(
    "mesh", [MeshConfig(2, 2, 1, 2), pytest.param(MeshConfig(1, 2, 1, 4), marks=pytest.mark.slow)]
)
def test_a_mesh_answers_as_one_device_does(checkpoint, alone, mesh):
    """Heads of keys divide over two devices; over four they do not, and every device has all of them."""
    core = EngineCore(load_model(checkpoint, CONFIG, WeightsConfig(mesh)), ENGINE)
    core.warm_up()
    for ours, theirs in zip(answers(core), alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    divided = "tensor" if mesh.tensor == 2 else None
    expected = jax.sharding.NamedSharding(core.memory.pages.sharding.mesh, P(None, None, divided))
    assert core.memory.pages.sharding.is_equivalent_to(expected, core.memory.pages.ndim)
    assert len(core.memory.pages.sharding.device_set) == 8


@pytest.mark.parametrize("count", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_dialogues_at_random_times_on_a_mesh_equal_each_decoded_alone_on_one_device(checkpoint, count):
    """With so few pages that dialogues make room for older ones."""
    model = load_model(checkpoint, CONFIG, WeightsConfig(MeshConfig(2, 2, 1, 2)))
    core = EngineCore(model, dataclasses.replace(SMALL, rows=8, memory=memory_of(36) / 2))
    assert len(core.memory.pages.sharding.device_set) == 8
    require_as_alone(core, load_model(checkpoint, CONFIG), random.Random(count), count)


def test_weights_may_be_halved(checkpoint):
    """Matrices alone; a mesh that does not fit is refused before anything is read."""
    whole = load_model(checkpoint, CONFIG)
    half = load_model(checkpoint, CONFIG, WeightsConfig(MeshConfig(tensor=2), "bfloat16"))
    for name, value in parameters(half).items():
        vector = name.endswith(("norm", "bias", "scale"))
        assert value.dtype == (np.float32 if vector else jax.numpy.bfloat16), name
        np.testing.assert_array_equal(value, parameters(whole)[name].astype(value.dtype))
    with pytest.raises(MeshError, match="does not fit 8 devices"):
        load_model(checkpoint, CONFIG, WeightsConfig(MeshConfig(fsdp=3)))
