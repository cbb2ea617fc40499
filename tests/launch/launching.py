"""A repository, a cloud that misbehaves, and the launchers as a shell runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import REPOSITORY, TESTS

LAUNCH = REPOSITORY / "launch"
FAKES = TESTS / "fake_cloud"
POD = ["--name=run1", "--project=p", "--zone=us-east5-a", "--type=v5p-16", "--slices=2", "--spot"]
JOB = [
    "--",
    "bagpiper_jax",
    "train",
    "--gin_file=gin/runs/a.gin",
    "--gin.TrainConfig.output='gs://b/a run; rm -rf ~'",
]
QUOTA = "ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit 'TPUV5PPreemptiblePodPerProject' has been exceeded. Limit: 0"

WORKER = """
import os, pathlib, signal, sys, time
home = pathlib.Path.home()
runs = home / "runs"
count = int(runs.read_text()) if runs.exists() else 0
runs.write_text(str(count + 1))
names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
print("run", count, *(os.environ[n] for n in names), "pid", os.getpid(), flush=True)
ends = sys.argv[1].split(",")
end = ends[min(count, len(ends) - 1)]
if end == "wait":
    while not (home.parent / "go").exists():
        time.sleep(0.02)
    end = "0"
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(end))
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A repository to install from (the working directory), and a cloud with two hosts per slice; its directory."""
    root, repository = tmp_path / "cloud", tmp_path / "repository"
    root.mkdir()
    (repository / "launch").mkdir(parents=True)
    shutil.copy(LAUNCH / "on_host.py", repository / "launch")
    (repository / "worker.py").write_text(WORKER)
    (repository / "gin/runs").mkdir(parents=True)
    (repository / "gin/runs/a.gin").write_text("TrainConfig.steps = 3\n")
    (repository / "launch" / "host_setup.sh").write_text(
        "cd $(dirname $0)/.. && mkdir -p .venv/bin && echo x >> ../installs\n"
        f"ln -sf {sys.executable} .venv/bin/python\n"
    )
    shutil.copy(LAUNCH.parent / ".gitignore", repository)
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    commit(repository)
    monkeypatch.setenv("FAKE_CLOUD", str(root))
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    monkeypatch.chdir(repository)
    plan(root)
    yield root
    (root / "go").touch()  # a test that failed leaves no process behind


def commit(repository=Path()):
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["add", "."], ["commit", "-q", "-m", "-"]):
        subprocess.run([*git, *arguments], check=True)


def plan(root, create=(), states=(("ACCEPTED", "WAITING_FOR_RESOURCES", "ACTIVE"),)):
    (root / "plan.json").write_text(json.dumps({"create": create, "states": states, "hosts": 2}))


def launch(script, action, *arguments):
    """With Ctrl-C in force: a shell that runs the tests in its background has it ignored."""
    return subprocess.Popen(
        [sys.executable, str(LAUNCH / script), action, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def up(ends):
    process = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", ends)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def verbs(root):
    if not (root / "calls.jsonl").exists():
        return []
    return [
        call[3]
        for call in map(json.loads, (root / "calls.jsonl").read_text().splitlines())
        if call[2] != "tpu-vm"
    ]


def runs(root):
    return [int(path.read_text() or 0) for path in sorted(root.glob("*/runs"))]


def attempts(root):
    return {json.loads(path.read_text())["attempt"] for path in root.glob("*/bagpiper_runs/run1/state")}


def installs(root):
    return [len(path.read_text().splitlines()) for path in root.glob("*/installs")]


def wait_until(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
