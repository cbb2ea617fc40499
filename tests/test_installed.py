"""The wheel and the sdist, installed where no checkout is: every job starts, and the quickstart's jobs do their work.

Dependencies are taken from the environment of the tests, by a .pth file, so that nothing is fetched.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import REPOSITORY

from bagpiper_jax import __version__
from bagpiper_jax.jobs import JOBS

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"

pytestmark = pytest.mark.slow


def tracked(*folders: str) -> list[str]:
    """Files of the repository that git knows or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]


def build(source: Path, what: str, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, what, str(into)]
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """(the wheel, the sdist) of a copy of the repository."""
    root = tmp_path_factory.mktemp("distributions")
    for name in tracked():
        (root / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / "copy" / name)
    sdist = build(root / "copy", "build_sdist", root / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(root, filter="data")
    unpacked = root / sdist.name.removesuffix(".tar.gz")
    return build(unpacked, "build_wheel", root / "wheel"), sdist


@pytest.fixture(scope="module")
def environment(distributions, tmp_path_factory) -> Path:
    """The bin directory of a virtual environment that has the wheel and no way back to the checkout."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    packages = next(root.glob("lib/python*/site-packages"))
    python = root / "bin/python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    # pip would find the checkout on the path of the tests, and take the wheel for installed.
    subprocess.run([*command, str(distributions[0])], check=True, env=outside())
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return root / "bin"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory of someone who has a tasks.py, whose path has spaces and umlauts."""
    path = tmp_path_factory.mktemp("installed") / "Vögel & Wälder, two words"
    path.mkdir()
    (path / "tasks.py").write_text("raise ModuleNotFoundError('invoke is not installed')\n")
    return path


def outside() -> dict[str, str]:
    """The environment of somebody who has no checkout."""
    ours = "PYTHONPATH", "XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"
    return {name: value for name, value in os.environ.items() if name not in ours}


def run(environment: Path, cwd: Path | str, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(environment / command[0]), *command[1:]],
        cwd=cwd,
        env={**outside(), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_wheel_and_sdist_hold_every_file_of_the_package(distributions):
    wheel, sdist = distributions
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = set(tracked("bagpiper_jax")) | {f"bagpiper_jax/{name}" for name in tracked("gin")}
    assert not wanted - held
    tasks = {Path(name).name for name in tracked("tasks")}
    assert not tasks - {Path(name).name for name in held}
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert not set(tracked("bagpiper_jax", "gin", "tasks", "launch")) - held
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= held


def test_what_the_package_says_of_itself(environment):
    code = (
        "import json, bagpiper_jax; from importlib.metadata import metadata;"
        "print(json.dumps([bagpiper_jax.__file__, dict(metadata('bagpiper_jax').json)]))"
    )
    done = run(environment, "/", "python", "-c", code)
    file, said = json.loads(done.stdout)
    assert str(environment.parent) in file
    assert said["version"] == __version__ and said["license_expression"] == "Apache-2.0"
    assert said["requires_python"] == ">=3.11" and said["summary"] and said["classifier"]
    assert any(need.startswith("etils") for need in said["requires_dist"])


def test_every_job_starts_in_the_root_directory(environment):
    listed = run(environment, "/", "bagpiper", "--help")
    assert listed.returncode == 0 and all(job in listed.stdout for job in JOBS)
    for job in JOBS:
        done = run(environment, "/", "python", "-m", "bagpiper_jax", job, "--help")
        assert done.returncode == 0 and "--gin" in done.stdout, (job, done.stderr[-2000:])


def test_the_quickstart_runs(environment, place):
    """Its jobs at a tiny size, in its order; gin files and the shipped codec and tower are found by name."""
    pytest.importorskip("hibari", reason="needs hibari-tts: pip install 'bagpiper_jax[quickstart]'")

    def job(name: str, *flags: str) -> None:
        done = run(
            environment, place, "python", "-m", "bagpiper_jax", name, *flags
        )  # tasks.py is first on its path
        assert done.returncode == 0, (name, done.stderr[-3000:])

    few = {"train_scenes": 24, "validation_scenes": 4, "test_scenes": 4, "text_documents": 20, "workers": 1}
    corpus = [f"--gin.EmbeddedCorpusConfig.{field}={number}" for field, number in few.items()]
    steps = [
        f"--gin.TrainConfig.{field}=2" for field in ("steps", "validate_every", "save_every", "log_every")
    ]
    steps += ["--gin.OptimizerConfig.decay_end=2", "--gin.OptimizerConfig.warmup_steps=1"]
    steps += ["--gin.MixtureLimits.min_packing=0.1"]
    job("build_corpus", "--gin_file=corpora/embedded.gin", *corpus)
    job("learn_tokenizer", "--gin_file=corpora/tokenizer.gin")
    job("tokenize_audio", "--gin.TokenizeConfig.corpus=corpora/embedded")
    job("cache_tasks", "--gin_file=mixtures/embedded.gin")
    job(
        "inspect_data",
        "--lock=cache/embedded_pretraining_with_reading.lock.json",
        "--tokenizer=corpora/embedded/tokenizer.json",
    )
    job("import_checkpoint", "--gin_file=runs/nano_start.gin")
    job("train", "--gin_file=gin/runs/nano_pretrain.gin", *steps)
    job("generate", "--gin_file=runs/generate_nano.gin", "--checkpoint=runs/nano_pretrain", "--text=Hello",
        "--gin.AudioSampling.max_steps=20")  # fmt: skip
    assert (place / "generated.wav").is_file()
    assert (place / "runs/nano_pretrain/config.json").is_file()
