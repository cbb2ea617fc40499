"""Gin at the edge: what builds, and what is refused with which words."""

import dataclasses
import subprocess
import sys

import pytest
from places import REPOSITORY

from bagpiper_jax import configuration
from bagpiper_jax.configuration import ConfigurationError
from bagpiper_jax.models.configs import BagpiperConfig


@dataclasses.dataclass(frozen=True)
class Job:
    """A job for these tests."""

    model: BagpiperConfig = BagpiperConfig()
    steps: int = 3
    path: str = ""
    rates: tuple[float, ...] = (1.0,)
    limit: int | None = None


MODEL = """
WIDTH = 192
DecoderConfig.width = %WIDTH
BagpiperConfig.decoder = @DecoderConfig()
Job.model = @BagpiperConfig()
"""


@pytest.fixture
def gin_file(tmp_path):
    def write(text: str, name: str = "job.gin") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_files_includes_macros_and_flags_build_nested_dataclasses(gin_file):
    inner = gin_file(MODEL, "model.gin")
    outer = gin_file(f"include '{inner}'\nJob.steps = 5\n")
    job = configuration.load(
        Job,
        [
            f"--gin_file={outer}",
            "--gin.Job.steps=7",
            "--gin.Job.path=some/file-1.gin",
            "--gin.Job.rates=(1, 2.5)",
        ],
    )
    assert job.model.decoder.width == 192
    assert (job.steps, job.path, job.rates) == (7, "some/file-1.gin", (1, 2.5))


def test_operative_config_names_defaults_too(gin_file):
    configuration.build(Job, [gin_file(MODEL)])
    text = configuration.operative_config()
    assert "DecoderConfig.width" in text and "DecoderConfig.ffn_width = 12288" in text


@pytest.mark.parametrize(
    "line, words",
    [
        ("Job.step = 3", "Job has no parameter 'step'; did you mean 'steps'?"),
        ("Jobb.steps = 3", "unknown name 'Jobb'; did you mean 'Job'?"),
        ("Job.steps = 'eight'", "Job.steps expects int, got 'eight'"),
        ("Job.steps = True", "Job.steps expects int, got True"),
        ("Job.rates = [1.0]", "expects tuple"),
        ("Job.limit = 1.5", "Job.limit expects int | None, got 1.5"),
        ("Job.model = @BagpiperConfig", "write @BagpiperConfig() to build it"),
        ("Job.model = @DecoderConfig()", "Job.model expects BagpiperConfig, got @DecoderConfig()"),
        ("Job.steps = %STEPS", "macro %STEPS, which is defined nowhere"),
        ("AudioTowerConfig.layers = 3", "bound but nothing uses it"),
        ("Job.steps = (1", "job.gin"),
        ("import os", "only bindings, macros and includes"),
    ],
)
def test_faults_name_place_and_remedy(gin_file, line, words):
    with pytest.raises(ConfigurationError) as error:
        configuration.build(Job, [gin_file(line + "\n")])
    assert words in str(error.value)


def test_all_faults_come_at_once(gin_file):
    with pytest.raises(ConfigurationError) as error:
        configuration.build(Job, [gin_file("Job.step = 3\nJob.steps = 'x'\n")], ["Job.rate=1"])
    message = str(error.value)
    assert "job.gin:1" in message and "job.gin:2" in message and "flag --gin." in message


def test_missing_file_and_stray_flag(gin_file):
    with pytest.raises(ConfigurationError, match="does not exist"):
        configuration.build(Job, ["gin/models/nanoo.gin"])
    with pytest.raises(ConfigurationError, match="unknown flags: --steps=3"):
        configuration.load(Job, ["--steps=3"])


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--gin.InspectConfig.lock=nowhere.lock.json"], "inspect_data: nowhere.lock.json does not exist"),
        (["--gin.InspectConfig.lok=x"], "did you mean 'lock'?"),
    ],
)
def test_a_job_as_a_shell_sees_it(flags, said):
    command = [sys.executable, "-m", "bagpiper_jax", "inspect_data", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert ended.returncode == 2 and said in ended.stderr
    assert "Traceback" not in ended.stderr and not ended.stdout
