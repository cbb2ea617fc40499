"""Real processes, real signals: an interrupted run continues with the same batches and the same losses, bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from places import HELPERS, REPOSITORY
from training_helpers import CONFIG, MODEL

from bagpiper_jax import parallel
from bagpiper_jax.errors import EXIT_TRY_AGAIN
from bagpiper_jax.training.checkpoints import restore_parameters
from bagpiper_jax.training.state import abstract_parameters

JOB = HELPERS / "training_job.py"


def start(output: Path, *bindings: str) -> subprocess.Popen:
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), XLA_FLAGS="", PYTHONUNBUFFERED="1")
    command = [sys.executable, str(JOB), str(output), *bindings]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(output: Path, interrupt=None, number=signal.SIGKILL) -> tuple[int, list[str]]:
    """Runs the job, sends the signal at the first line for which `interrupt` holds; (exit code, lines)."""
    process, lines = start(output), []
    for line in process.stdout:
        lines.append(line.strip())
        if interrupt and interrupt(line):
            process.send_signal(number)
            interrupt = None
    return process.wait(), lines


def batches(lines: list[str]) -> dict[int, str]:
    """Step → checksum of its batch. How far a loader reads beyond the last step depends on who is faster."""
    found = {int(m[1]): m[2] for line in lines if (m := re.fullmatch(r"BATCH (\d+) (\d+)", line))}
    return {step: checksum for step, checksum in found.items() if step < CONFIG.steps}


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines), "a step was written twice"
    return {line["step"]: line["loss"] for line in lines}


def parameters(output: Path):
    return jax.device_get(
        restore_parameters(
            output, abstract_parameters(MODEL, parallel.make_mesh(CONFIG.mesh, jax.devices()[:1]))
        )
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    code, lines = run(output)
    assert code == 0, "\n".join(lines)
    assert sorted(losses(output)) == list(range(1, CONFIG.steps + 1))
    return output, batches(lines)


def assert_same_run(output: Path, lines: list[str], uninterrupted) -> None:
    whole, whole_batches = uninterrupted
    assert losses(output) == losses(whole)
    seen = batches(lines)
    assert seen and seen == {step: whole_batches[step] for step in seen}
    jax.tree.map(np.testing.assert_array_equal, parameters(output), parameters(whole))


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 5])
def test_kill_during_training(tmp_path, uninterrupted, step):
    code, _ = run(tmp_path, lambda line: line.startswith(f"BATCH {step} "))
    assert code == -signal.SIGKILL
    code, lines = run(tmp_path)
    assert code == 0, "\n".join(lines)
    assert_same_run(tmp_path, lines, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kill_while_a_checkpoint_is_written(tmp_path, uninterrupted, seed):
    """Killed a random few milliseconds after the first torn file of the second checkpoint appears."""
    process = start(tmp_path)
    root = tmp_path / "checkpoints"
    while process.poll() is None and not any(p.name.startswith("4") for p in root.glob("*")):
        time.sleep(0.0005)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.03))
    process.kill()
    process.communicate()
    code, lines = run(tmp_path)
    assert code == 0, "\n".join(lines)
    assert min(batches(lines)) in (2, 4)
    assert_same_run(tmp_path, lines, uninterrupted)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_its_code(tmp_path, uninterrupted):
    code, lines = run(tmp_path, lambda line: line.startswith("BATCH 4 "), signal.SIGTERM)
    assert code == EXIT_TRY_AGAIN, "\n".join(lines)
    reached = max(losses(tmp_path))
    assert reached < CONFIG.steps
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()].count(reached) == 1
    code, lines = run(tmp_path)
    assert code == 0, "\n".join(lines)
    assert min(batches(lines)) == reached
    assert_same_run(tmp_path, lines, uninterrupted)


@pytest.mark.slow
def test_a_process_ends_at_once_when_its_disk_stays_full(tmp_path):
    """Threads of Orbax that wait for the end of the failed save would keep it for ten minutes."""
    process = start(tmp_path, "fills=[0, 2]")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "train: cannot write checkpoint in" in text, text
    assert "Free space" in (tmp_path / "crash.txt").read_text()


ENDING = """
import atexit
from bagpiper_jax import jobs
from bagpiper_jax.errors import Explained
def explain(): raise Explained("why")
atexit.register(print, "waits for the others", flush=True)
jobs.end_with("train", lambda: {end}, at_once=True)
"""


@pytest.mark.parametrize(
    "end, code, waits", [("0", 0, True), ("75", 75, True), ("explain()", 2, False), ("1 / 0", 1, False)]
)
def test_only_a_process_that_fails_leaves_its_pod_without_waiting(end, code, waits):
    """JAX waits for a pod's processes at exit; those that come later are aborted where the first has left."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(end=end)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert (done.returncode, "waits" in done.stdout) == (code, waits), done.stderr
