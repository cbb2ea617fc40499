"""Training as real processes joined by jax.distributed: the one-process run's numbers, and checkpoints both ways."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY
from synthetic_cache import damage, write_mixture
from training_helpers import TINY_FLAGS

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.errors import EXIT_TRY_AGAIN
from bagpiper_jax.jobs import train as job

MIXTURE = {"caption_to_audio": (30, 1.0), "audio_to_caption": (30, 1.0), "understanding": (10, 1.0)}
FLAGS = [
    *TINY_FLAGS,
    "--gin.DecoderConfig.dtype=float32", "--gin.AudioTowerConfig.dtype=float32", "--gin.DecoderConfig.remat=none",
    "--gin.TrainConfig.log_every=1", "--gin.TrainConfig.optimizer=@OptimizerConfig()",
    "--gin.OptimizerConfig.peak_rate=0.01", "--gin.OptimizerConfig.warmup_steps=1",
]  # fmt: skip
MORE_STEPS = 2


def run_pod(*flags: str, stop_at: str = "") -> tuple[int, str]:
    """Two processes of one device each; SIGTERM to the pod at the first line with `stop_at`. (exit code, output)."""
    command = [
        sys.executable, "launch/local_pod.py", "--processes", "2", "--", sys.executable, "-m", "bagpiper_jax", "train",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*command, *flags], cwd=REPOSITORY, env=dict(os.environ, PYTHONUNBUFFERED="1"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if stop_at and stop_at in line:
                process.send_signal(signal.SIGTERM)
                stop_at = ""
        return process.wait(), "".join(lines)
    finally:
        process.terminate()  # a test that ends early leaves no pod behind


def scalars(output: Path) -> dict[tuple, dict]:
    """Everything logged but what a clock measures, by kind and step."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    found = {
        (line["kind"], line["step"]): {
            k: x for k, x in line.items() if "per_second" not in k and k not in ("kind", "goodput")
        }
        for line in lines
    }
    assert len(found) == len(lines), "a step was written twice"
    return found


def assert_same_curve(output: Path, other: Path, steps: int) -> None:
    """Every scalar of every training step, and of the last validation."""
    ours, theirs = scalars(output), scalars(other)
    for key in [("train", step) for step in range(1, steps + 1)] + [("validation", steps)]:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key


def position(output: Path, step: int) -> dict:
    return json.loads((output / "checkpoints" / str(step) / "data" / "metadata").read_text())


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """output, steps → flags of a run on one cache."""
    root = tmp_path_factory.mktemp("caches")
    locks = {
        "train_lock": write_mixture(root / "train", MIXTURE),
        "validation_lock": write_mixture(root / "held_out", MIXTURE, seed=1, split="validation"),
    }
    damage(TaskCache(root / "train/audio_to_caption/train"), 4)

    def make(output: Path, steps: int) -> list[str]:
        fields = {**locks, "output": output, "steps": steps}
        return [*FLAGS, *(f"--gin.TrainConfig.{name}={value}" for name, value in fields.items())]

    return make


@pytest.fixture(scope="module")
def preempted(tmp_path_factory, flags):
    """(output, steps reached) of two processes that SIGTERM ended."""
    output = tmp_path_factory.mktemp("pod") / "run"
    code, text = run_pod(*flags(output, 10_000), stop_at="step 2/")
    assert code == EXIT_TRY_AGAIN, text
    (saved,) = (int(path.name) for path in (output / "checkpoints").iterdir())
    assert sorted(scalars(output)) == [("train", step) for step in range(1, saved + 1)]
    return output, saved


@pytest.fixture(scope="module")
def alone(tmp_path_factory, flags, preempted):
    """Output of one process with eight devices: a validation where the pod stopped, and two more steps."""
    output, stopped = tmp_path_factory.mktemp("alone") / "run", preempted[1]
    assert job.main(flags(output, stopped)) == 0
    shutil.copytree(output, output.with_name("stopped"))
    assert job.main(flags(output, stopped + MORE_STEPS)) == 0
    return output


@pytest.mark.slow
def test_one_process_continues_a_preempted_pod(tmp_path, flags, preempted, alone):
    output, stopped = preempted
    steps = stopped + MORE_STEPS
    assert position(output, stopped) == position(alone, stopped)
    shutil.copytree(output, tmp_path / "run")
    assert job.main(flags(tmp_path / "run", steps)) == 0
    assert_same_curve(tmp_path / "run", alone, steps)
    counted = [line["corrupt_examples"] for (kind, _), line in scalars(alone).items() if kind == "train"]
    assert counted[-1] > 0, "one record is damaged, and each process meets it in rows of its own"
    assert position(tmp_path / "run", steps) == position(alone, steps)


@pytest.mark.slow
def test_a_pod_continues_one_process(tmp_path, flags, preempted, alone):
    """The tensor shards of each row lie in both processes, so both must feed all rows."""
    steps = preempted[1] + MORE_STEPS
    shutil.copytree(alone.with_name("stopped"), tmp_path / "run")
    mesh = ["TrainConfig.mesh=@MeshConfig()", "MeshConfig.fsdp=1", "MeshConfig.tensor=2"]
    code, text = run_pod(*flags(tmp_path / "run", steps), *(f"--gin.{binding}" for binding in mesh))
    assert code == 0, text
    assert_same_curve(tmp_path / "run", alone, steps)
    assert position(tmp_path / "run", steps) == position(alone, steps)


@pytest.mark.slow
def test_a_pod_validates_as_one_process_and_only_the_first_process_writes(tmp_path, flags, alone):
    """Its unigram model counts the rows of all processes."""
    code, text = run_pod(*flags(tmp_path / "run", 1), f"--gin.TrainConfig.init_from={alone}")
    assert code == 0, text
    assert job.main([*flags(tmp_path / "one", 1), f"--gin.TrainConfig.init_from={alone}"]) == 0
    assert_same_curve(tmp_path / "run", tmp_path / "one", 1)
    assert len((tmp_path / "run" / "environment.jsonl").read_text().splitlines()) == 1
    environment = json.loads((tmp_path / "run" / "environment.jsonl").read_text())
    assert (environment["processes"], environment["devices"]) == (2, 2)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
