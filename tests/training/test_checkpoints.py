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
from etils import epath
from training_helpers import CONFIG, MODEL, with_

from bagpiper_jax import digests, parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    find_checkpoint,
    find_parameters,
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
    with pytest.raises(CheckpointError, match=r"embed_tokens is \[576, 32\], should be \[576, 64\]") as e:
        checkpoints.restore(5, abstract_state(config, mesh_of(config)))
    assert "more" in str(e.value)
    with pytest.raises(CheckpointError, match="decoder/embed_tokens"):
        restore_parameters(saved, abstract_parameters(config.model, mesh_of(config)))


def test_another_stage_is_refused(saved):
    config = with_(stage="warmup")
    with pytest.raises(CheckpointError, match="unknown "):
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


def flip(path, position=None, seed=0):
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    position = int(rng.integers(len(content))) if position is None else position
    content[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def stored_files(step):
    """Files of a checkpoint, but Orbax's own about the step as a whole: names of handlers, times, "committed"."""
    return [p for p in step.rglob("*") if p.is_file() and not (p.parent == step and p.name != digests.FILE)]


def test_a_flipped_bit_in_any_file_is_noticed_and_named(saved, tmp_path):
    like = abstract_state(CONFIG, mesh_of(CONFIG))
    names = [p.relative_to(saved) for p in stored_files(saved / "checkpoints" / "5")]
    assert {"data", "provenance", "parameters", "optimizer"} <= {name.parts[2] for name in names}
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    for seed, name in enumerate(names):
        whole = (run / name).read_bytes()
        flip(run / name, seed=seed)
        with pytest.raises(CheckpointError) as error:
            Checkpoints(run / "checkpoints", 2).restore(5, like)
        assert name.name == digests.FILE or str(name) in str(error.value), (name, str(error.value))
        assert "takes step 4" in str(error.value)
        (run / name).write_bytes(whole)
    assert_equal(
        Checkpoints(run / "checkpoints", 2).restore(5, like)[0].parameters,
        restore_parameters(run, like.parameters),
    )


@pytest.mark.parametrize("harm", ["missing", "longer", "empty"])
def test_parameters_are_verified_for_those_that_read_them_alone(saved, tmp_path, harm):
    shutil.copytree(saved, tmp_path / "run")
    path = max(stored_files(tmp_path / "run/checkpoints/5/parameters"), key=lambda p: p.stat().st_size)
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"0" if harm == "longer" else b"")
    like = abstract_parameters(MODEL, mesh_of(CONFIG))
    for read in (
        lambda: restore_parameters(tmp_path / "run", like),
        lambda: find_parameters(tmp_path / "run"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(path.name)):
            read()


def test_what_nobody_reads_is_not_verified(saved, tmp_path):
    """Generation and export need the parameters, not the optimizer's state of twice their size."""
    shutil.copytree(saved, tmp_path / "run")
    for path in stored_files(tmp_path / "run/checkpoints/5/optimizer"):
        flip(path)
    restore_parameters(tmp_path / "run", abstract_parameters(MODEL, mesh_of(CONFIG)))


def test_a_checkpoint_without_digests_is_read_with_a_warning(saved, tmp_path, caplog, state):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run/checkpoints/5" / digests.FILE).unlink()
    restored, _ = Checkpoints(tmp_path / "run/checkpoints", 2).restore(
        5, abstract_state(CONFIG, mesh_of(CONFIG))
    )
    assert_equal(restored.parameters, state.parameters)
    assert re.search(r"checkpoints/5 has no digests.*would go unnoticed", caplog.text)


def test_a_damaged_checkpoint_without_digests_is_explained(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    step = tmp_path / "run/checkpoints/5"
    (step / digests.FILE).unlink()
    for path in (step / "parameters").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"(?s)checkpoints/5.*it is damaged"):
        restore_parameters(tmp_path / "run", abstract_parameters(MODEL, mesh_of(CONFIG)))


@pytest.mark.parametrize("name", ["run[1]", "run*", "a?", "a\\b", "**", "[", "a]", "x\\n", "caf\udce9"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused_by_name(tmp_path, name):
    with pytest.raises(CheckpointError, match="the path .*(holds|no Unicode)"):
        Checkpoints(tmp_path / name / "checkpoints")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a b", "ü", "100%", "%41", "#1", "a|b", "{a}", "it's", "a:b"])
def test_other_paths_hold_checkpoints(tmp_path, state, name):
    where = tmp_path / name
    with Checkpoints(where) as checkpoints:
        checkpoints.save(state, DATA, {}, wait=True)
    assert_equal(restore_parameters(where, abstract_parameters(MODEL, mesh_of(CONFIG))), state.parameters)


def test_a_run_that_is_moved_below_such_a_path_is_read(saved, tmp_path, state):
    shutil.copytree(saved, tmp_path / "run[1]")
    assert_equal(
        restore_parameters(tmp_path / "run[1]", abstract_parameters(MODEL, mesh_of(CONFIG))), state.parameters
    )


def test_a_save_without_data_is_no_checkpoint(tmp_path, state, monkeypatch):
    """Whatever keeps Orbax from writing: here, that it finds nothing to merge."""
    monkeypatch.setattr(epath.Path, "glob", lambda self, pattern: iter(()), raising=False)
    monkeypatch.setattr(type(epath.Path(tmp_path)), "glob", lambda self, pattern: iter(()))
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr("bagpiper_jax.training.checkpoints.RETRY_SECONDS", ())
    with pytest.raises(CheckpointError, match="wrote no data into"):
        checkpoints.save(state, DATA, {}, wait=True)
    assert checkpoints.latest() is None


@pytest.fixture
def small_disk():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda n: resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))  # noqa: E731
    yield limit
    limit(soft)


def test_a_failed_save_leaves_nothing_and_the_next_try_waits(saved, tmp_path, state, small_disk, monkeypatch):
    """What it wrote would fill the disk that the next try needs, and saves that are due meanwhile would fail too."""
    monkeypatch.setattr("bagpiper_jax.training.checkpoints.RETRY_SECONDS", (0.2, 0.2))
    run = tmp_path / "checkpoints"
    shutil.copytree(saved / "checkpoints", run)
    checkpoints = Checkpoints(run, 2)
    small_disk(2000)
    checkpoints.save(dataclasses.replace(state, step=np.int32(6)), DATA, {})
    checkpoints.failed(wait=True)
    assert sorted(p.name for p in run.iterdir()) == ["4", "5"]
    checkpoints.save(dataclasses.replace(state, step=np.int32(7)), DATA, {})
    checkpoints.save(dataclasses.replace(state, step=np.int32(8)), DATA, {})
    small_disk(resource.RLIM_INFINITY)
    while not checkpoints.failed():
        pass
    checkpoints.save(dataclasses.replace(state, step=np.int32(9)), DATA, {}, wait=True)
    assert sorted(p.name for p in run.iterdir()) == ["5", "9"]
