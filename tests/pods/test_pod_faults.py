"""Faults of one process of a real pod: the others end too, the culprit is named, and the same command continues."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import HELPERS, REPOSITORY

from bagpiper_jax.errors import EXIT_TRY_AGAIN

JOB = HELPERS / "training_job.py"
POD = REPOSITORY / "launch" / "local_pod.py"
QUICK = ("beat_seconds=0.2", "stall_seconds=5", "give_up_seconds=20")


def run(
    output: Path, *bindings: str, processes: int = 2, devices: int = 1, kill: str = "", stop: str = ""
) -> tuple[int, str]:
    """Runs the pod. (exit code, output).

    At the first line that matches `kill` the process that printed it is killed; at that of `stop` the pod gets SIGTERM.
    """
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), XLA_FLAGS="", PYTHONUNBUFFERED="1")
    command = [
        sys.executable, str(POD), f"--processes={processes}", f"--devices_per_process={devices}", "--",
        sys.executable, str(JOB), str(output), *bindings,
    ]  # fmt: skip
    pod = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    try:
        for line in pod.stdout:
            lines.append(line)
            if kill and re.search(kill, line):
                (victim,) = [p for p in jobs_of(pod.pid) if environ_of(p)["JAX_PROCESS_ID"] == line[1]]
                os.kill(victim, signal.SIGKILL)
                kill = ""
            if stop and re.search(stop, line):
                pod.send_signal(signal.SIGTERM)
                stop = ""
        return pod.wait(), "".join(lines)
    finally:
        pod.terminate()


def jobs_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environ_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(item.partition("=")[::2] for item in text.split("\0") if item)


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines), "a step was written twice"
    return {line["step"]: line["loss"] for line in lines}


def account(output: Path) -> dict:
    found = json.loads((output / "goodput.json").read_text())
    assert sum(found["seconds"].values()) == pytest.approx(found["wall_seconds"], rel=1e-6)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    code, text = run(output)
    assert code == 0, text
    assert account(output)["attempts"][0]["end"] == "done"
    return losses(output)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killing_any_process_ends_the_pod_and_the_same_command_continues(tmp_path, uninterrupted, victim):
    code, text = run(tmp_path, kill=rf"^\[{victim}\] BATCH 5 ")
    assert code == 128 + signal.SIGKILL, text
    code, text = run(tmp_path)
    assert code == 0, text
    assert "continuing from step" in text and losses(tmp_path) == uninterrupted
    assert [attempt["end"] for attempt in account(tmp_path)["attempts"]][-1] == "done"


@pytest.mark.slow
def test_a_host_whose_data_stops_is_named_and_the_pod_asks_to_be_started_again(tmp_path, uninterrupted):
    code, text = run(tmp_path, "stalls=[1, 4]", *QUICK)
    assert code == EXIT_TRY_AGAIN, text
    assert re.search(r"\[1\] WARNING .*process 1 \(\S+\) is in data at step \d for", text), text
    assert re.search(r"\[0\] WARNING .*process 1 \(\S+\) waits for the batch of step \d for", text), text
    assert re.search(r"no progress in (data|step) for \d+ s", (tmp_path / "crash.txt").read_text())
    assert (
        "time.sleep" in (tmp_path / "hosts" / "1.stack.txt").read_text()
        or "iterate" in (tmp_path / "hosts" / "1.stack.txt").read_text()
    )
    code, text = run(tmp_path)
    assert code == 0, text
    assert losses(tmp_path) == uninterrupted


@pytest.mark.slow
def test_a_data_worker_that_dies_ends_the_pod_with_its_host_in_the_report(tmp_path):
    code, text = run(tmp_path, "breaks=[1, 4]")
    assert code == 1, text
    report = (tmp_path / "crash.txt").read_text()
    assert re.search(r"process 1 \(\S+\) failed during data at step \d", report), report
    assert "OSError: the disk of this host is gone" in report


@pytest.mark.slow
def test_a_host_with_slow_data_is_named(tmp_path):
    code, text = run(tmp_path, "slow=[1, 0]", "steps=12", *QUICK)
    assert code == 0, text
    assert re.search(r"\[1\] WARNING .*process 1 \(\S+\) waited for data \d+ % of the last \d+ s", text), text
    assert not re.search(r"process 0 \(\S+\) waited for data", text)


@pytest.mark.slow
def test_four_processes_resume_on_two_with_the_losses_of_an_undisturbed_run(tmp_path):
    whole, output = tmp_path / "whole", tmp_path / "resumed"
    code, text = run(whole, "steps=10", processes=4)
    assert code == 0, text
    code, text = run(output, "steps=10", processes=4, stop="step 3/10")
    assert code == EXIT_TRY_AGAIN, text
    stopped = max(losses(output))
    assert stopped < 10
    code, text = run(output, "steps=10", processes=2, devices=2)
    assert code == 0, text
    assert losses(output) == pytest.approx(losses(whole), rel=1e-6)
    assert [attempt["end"] for attempt in account(output)["attempts"]] == ["preempted", "done"]
    equal = [step for step, loss in losses(output).items() if loss == losses(whole)[step]]
    print(f"stopped after step {stopped}; the same bits in steps {equal} of {sorted(losses(whole))}")
