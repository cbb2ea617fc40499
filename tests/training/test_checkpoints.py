"""Checkpoints: complete or absent, exact, on any mesh, refused by name where they do not fit."""

import dataclasses
import logging
import re
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from training_helpers import CONFIG, MODEL, with_

from bagpiper_jax import parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    find_checkpoint,
    restore_parameters,
)
from bagpiper_jax.training.state import abstract_parameters, abstract_state, create_state

# Orbax leaves a coroutine behind when a save fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DATA = {"step": 3, "identity": {"seed": 1}}


def mesh_of(config):
    return parallel.make_mesh(config.mesh, jax.devices()[: config.mesh.fsdp * config.mesh.tensor])


def make_state(config=CONFIG, step=3):
    state = create_state(config, mesh_of(config))
    return dataclasses.replace(state, step=state.step + step)


@pytest.fixture(scope="module")
def state():
    return make_state()


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A run's directory with steps 3, 4 and 5 saved, of which two are kept."""
    run = tmp_path_factory.mktemp("run")
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    for step in (3, 4, 5):
        checkpoints.save(dataclasses.replace(state, step=np.int32(step)), DATA, {"gin": "A.b = 1"})
    checkpoints.wait()
    checkpoints.close()
    return run


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def test_newest_are_kept(saved):
    assert sorted(p.name for p in (saved / "checkpoints").iterdir()) == ["4", "5"]
    assert find_checkpoint(saved) == find_checkpoint(saved / "checkpoints") == saved / "checkpoints" / "5"


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=1), MeshConfig(fsdp=4, tensor=2)])
def test_restores_exactly_onto_any_mesh(saved, state, mesh):
    config = with_(mesh=mesh)
    like = abstract_state(config, mesh_of(config))
    restored, data = Checkpoints(saved / "checkpoints", 2).restore(5, like)
    assert data == DATA and int(restored.step) == 5
    assert_equal(dataclasses.replace(restored, step=state.step), state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, like)


def test_parameters_alone_serve_every_stage(saved, state):
    config = with_(stage="sft", mesh=MeshConfig(fsdp=4, tensor=2))
    mesh = mesh_of(config)
    parameters = restore_parameters(saved, abstract_parameters(MODEL, mesh))
    assert_equal(parameters, state.parameters)
    assert_equal(create_state(config, mesh, parameters).parameters, state.parameters)


def test_save_survives_donation_of_the_state(tmp_path, state):
    """What is saved is the state at the call, although its buffers are overwritten while the save runs."""
    moved = jax.tree.map(lambda x: x + 0, state)
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(moved, DATA, {})
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    for _ in range(3):
        moved = overwrite(moved)
    checkpoints.wait()
    assert_equal(checkpoints.restore(3, abstract_state(CONFIG, mesh_of(CONFIG)))[0], state)


def test_another_model_size_is_refused_by_name(saved):
    decoder = dataclasses.replace(MODEL.decoder, width=64, layers=3)
    config = with_(model=dataclasses.replace(MODEL, decoder=decoder))
    checkpoints = Checkpoints(saved / "checkpoints", 2)
    with pytest.raises(
        CheckpointError, match=r"embed_tokens: \[576, 32\] in the checkpoint, \[576, 64\] in this run"
    ) as e:
        checkpoints.restore(5, abstract_state(config, mesh_of(config)))
    assert "more" in str(e.value)
    with pytest.raises(CheckpointError, match="decoder/embed_tokens"):
        restore_parameters(saved, abstract_parameters(config.model, mesh_of(config)))


def test_another_stage_is_refused(saved):
    config = with_(stage="warmup")
    with pytest.raises(CheckpointError, match="not in this model or stage"):
        Checkpoints(saved / "checkpoints", 2).restore(5, abstract_state(config, mesh_of(config)))


def test_no_checkpoint_is_a_clear_error(tmp_path):
    assert Checkpoints(tmp_path, 2).latest() is None
    with pytest.raises(CheckpointError, match="no complete checkpoint in"):
        restore_parameters(tmp_path, {})


def test_torn_checkpoint_is_ignored_and_reported(saved, tmp_path, caplog):
    """A process killed while Orbax writes leaves a directory that is not taken for a checkpoint."""
    run = tmp_path / "checkpoints"
    shutil.copytree(saved / "checkpoints", run)
    code = (
        "import os, sys, numpy as np, orbax.checkpoint as ocp\n"
        "manager = ocp.CheckpointManager(sys.argv[1])\n"
        "tree = ocp.args.StandardSave({'x': np.ones(20_000_000, np.float32)})\n"
        "manager.save(6, args=ocp.args.Composite(parameters=tree))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True).returncode == -9
    assert len(list(run.iterdir())) == 3
    assert find_checkpoint(tmp_path).name == "5"
    with caplog.at_level(logging.WARNING, "bagpiper_jax"):
        assert Checkpoints(run, 2).latest() == 5
    assert re.search("checkpoints/6.* was never completed", caplog.text)
    assert sorted(p.name for p in run.iterdir()) == ["4", "5"]


def test_full_disk_is_an_error_that_names_directory_and_remedy(saved, tmp_path, state):
    """A file-size limit makes writes fail as a full disk does."""
    run = tmp_path / "checkpoints"
    shutil.copytree(saved / "checkpoints", run)
    checkpoints = Checkpoints(run, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CheckpointError, match="Last complete checkpoint: step 5.*Free space") as error:
            checkpoints.save(dataclasses.replace(state, step=np.int32(6)), DATA, {})
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(run) in str(error.value)
    assert Checkpoints(run, 2).latest() == 5


def test_damaged_checkpoint_is_refused_with_the_way_to_the_one_before_it(saved, tmp_path):
    run = tmp_path / "checkpoints"
    shutil.copytree(saved / "checkpoints", run)
    for path in (run / "5" / "parameters").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    like = abstract_state(CONFIG, mesh_of(CONFIG))
    with pytest.raises(CheckpointError, match=r"(?s)checkpoints/5.*move it away and run the same"):
        Checkpoints(run, 2).restore(5, like)
    shutil.rmtree(run / "5")
    assert Checkpoints(run, 2).latest() == 4
    assert int(Checkpoints(run, 2).restore(4, like)[0].step) == 4
