"""Ordinary mistakes are explained before data are read or anything is compiled."""

import os
import subprocess
import sys

import pytest
from places import REPOSITORY
from training_helpers import CONFIG, MODEL, with_

from bagpiper_jax import configuration
from bagpiper_jax.configuration import ConfigurationError
from bagpiper_jax.jobs import train as job
from bagpiper_jax.models.attention.kernels import KERNELS, PLATFORMS
from bagpiper_jax.models.attention.sharding import KernelError
from bagpiper_jax.models.config_json import ModelConfigError, save_model_config
from bagpiper_jax.models.configs import DecoderConfig
from bagpiper_jax.runs.output_lock import OutputError, OutputInUseError, hold
from bagpiper_jax.training.checkpoint_checks import CheckpointError
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.tables import require_start

NOTHING = ["--gin.TrainConfig.train_lock='absent.lock.json'"]


@pytest.mark.parametrize("made", ["nothing", "an empty directory", "a file"])
def test_a_run_to_start_from_that_is_none_is_named(tmp_path, made):
    path = tmp_path / "init"
    if made != "nothing":
        path.mkdir() if "empty" in made else path.write_text("")
    with pytest.raises(CheckpointError, match=f"TrainConfig.init_from: no complete checkpoint in {path}"):
        require_start(with_(CONFIG, output=str(tmp_path / "run"), init_from=str(path)))


def test_parameters_without_a_config_are_named(tmp_path):
    (tmp_path / "init" / "parameters").mkdir(parents=True)
    with pytest.raises(ModelConfigError, match="TrainConfig.init_from: .*holds no config.json"):
        require_start(with_(CONFIG, output=str(tmp_path / "run"), init_from=str(tmp_path / "init")))
    save_model_config(tmp_path / "init", MODEL)
    require_start(with_(CONFIG, output=str(tmp_path / "run"), init_from=str(tmp_path / "init")))


def test_a_run_that_continues_does_not_need_what_it_started_from(tmp_path):
    (tmp_path / "run" / "checkpoints" / "3" / "parameters").mkdir(parents=True)
    require_start(with_(CONFIG, output=str(tmp_path / "run"), init_from=str(tmp_path / "gone")))


@pytest.mark.parametrize("name", sorted(PLATFORMS))
def test_a_kernel_of_other_chips_is_refused_before_data_are_read(tmp_path, name):
    flags = [
        *NOTHING, f"--gin.TrainConfig.output='{tmp_path / 'run'}'", "--gin.TrainConfig.model=@BagpiperConfig()",
        "--gin.BagpiperConfig.decoder=@DecoderConfig()", f"--gin.DecoderConfig.attention='{name}'",
    ]  # fmt: skip
    with pytest.raises(KernelError, match=f"'{name}' runs on .PUs, not on cpu"):
        job.main(flags)


@pytest.mark.parametrize(
    "field, value",
    [("attention", "flash"), ("attention", ""), ("dtype", "bf16"), ("remat", "all"), ("layers", 0)],
)
def test_a_name_that_does_not_exist_is_refused_by_the_configuration(field, value):
    flags = ["TrainConfig.output='x'", "TrainConfig.train_lock='x'", "TrainConfig.model=@BagpiperConfig()",
             "BagpiperConfig.decoder=@DecoderConfig()", f"DecoderConfig.{field}={value!r}"]  # fmt: skip
    with pytest.raises(ConfigurationError, match=f"DecoderConfig.{field}"):
        configuration.build(TrainConfig, [], flags)


def test_every_kernel_can_be_named():
    for name in KERNELS:
        assert DecoderConfig(attention=name).attention in DecoderConfig.__annotations__["attention"].__args__


@pytest.mark.parametrize("platform, said", [("tpu", "tpu"), ("rocm", "rocm"), ("quantum", "quantum")])
def test_a_platform_that_does_not_start_is_explained(tmp_path, platform, said):
    """Quickly, with exit code 2, by every job that computes."""
    environment = dict(os.environ, JAX_PLATFORMS=platform, TPU_LIBRARY_PATH="/nowhere/libtpu.so")
    done = subprocess.run(
        [sys.executable, "-m", "bagpiper_jax", "train", *NOTHING, f"--gin.TrainConfig.output='{tmp_path / 'run'}'"],
        capture_output=True, text=True, cwd=REPOSITORY, env=environment,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "JAX finds no device" in done.stderr and said in done.stderr


@pytest.mark.parametrize("name", ["run[1]", "a*b"])
def test_a_path_that_checkpoints_cannot_have_is_refused_first(tmp_path, name):
    with pytest.raises(CheckpointError, match="takes for a pattern"):
        job.main([*NOTHING, f"--gin.TrainConfig.output='{tmp_path / name}'"])
    assert not list(tmp_path.iterdir())


def test_a_second_run_is_refused_before_it_reads_data_and_touches_nothing(tmp_path):
    with hold(tmp_path / "run"):
        before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
        with pytest.raises(OutputInUseError, match=f"process {os.getpid()} on "):
            job.main([*NOTHING, f"--gin.TrainConfig.output='{tmp_path / 'run'}'"])
        assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_an_output_that_cannot_be_written_to_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to the output .*file/run"):
        job.main([*NOTHING, f"--gin.TrainConfig.output='{tmp_path / 'file' / 'run'}'"])
