"""Killed at any step and continued by other numbers of processes, threads and rows: the very same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_job import checksums
from places import HELPERS, REPOSITORY
from synthetic_cache import VOCABULARY, write_mixture

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.loader import Loader, LoaderConfig

MIXTURE = {"caption_to_audio": (30, 1.0), "audio_to_caption": (40, 2.0), "generation": (10, 0.5)}
# Processes, threads, rows per step; each but the last is killed.
RUNS = [(1, 0, 8), (2, 4, 8), (4, 0, 8), (2, 0, 4), (4, 4, 12), (1, 4, 8)]


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("mixture"), MIXTURE)


def run(lock: Path, output: Path, processes: int, threads: int, rows: int, steps: int, kill_at: int) -> int:
    command = [
        sys.executable, "launch/local_pod.py", "--processes", str(processes), "--",
        sys.executable, str(HELPERS / "data_job.py"), str(lock), str(output), str(rows), str(steps),
        str(threads), str(kill_at),
    ]  # fmt: skip
    path = os.pathsep.join([str(HELPERS), str(REPOSITORY)])
    done = subprocess.run(
        command, cwd=REPOSITORY, env=dict(os.environ, PYTHONPATH=path, XLA_FLAGS=""), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert (done.returncode == 0) == (kill_at < 0), done.stdout
    return done.returncode


def noted(output: Path) -> dict[int, set[int]]:
    """Row of the run → every checksum that some process noted for it."""
    found = {}
    for file in output.glob("rows-*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            for row, checksum in enumerate(line["rows"], line["first"]):
                found.setdefault(row, set()).add(checksum)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_on_other_topologies_sees_the_same_rows(tmp_path, lock, seed):
    rng, reached = np.random.default_rng(seed), 0
    order = RUNS[:-1] if seed == 0 else list(reversed(RUNS[:-1]))
    for processes, threads, rows in order:
        kill_at = reached + int(rng.integers(3, 8))
        run(lock, tmp_path, processes, threads, rows, 10_000, kill_at)
        reached = kill_at // 2 * 2  # saved every other step
    processes, threads, rows = RUNS[-1]
    run(lock, tmp_path, processes, threads, rows, reached + 5, -1)

    found = noted(tmp_path)
    assert sorted(found) == list(range(len(found))), "rows without gaps"
    whole = Loader(lock, BatchShape(1, 256, 8), VOCABULARY, LoaderConfig(window=64))
    assert len(found) > 100
    for row, seen in found.items():
        assert seen == set(checksums(whole.batch(row))), f"row {row}"
