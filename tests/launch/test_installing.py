"""Which commit's code runs on a pod."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from launching import (
    POD,
    WORKER,
    attempts,
    commit,
    installs,
    launch,
    plan,
    runs,
    up,
    verbs,
    wait_until,
)


def test_a_new_commit_is_installed_on_a_pod_that_lives(cloud):
    """With the files that it removed gone; once per commit; what is not committed is named and left at home."""
    Path("gone.py").write_text("")
    commit()
    assert up("0")[0] == 0 and up("0")[0] == 0
    assert installs(cloud) == [1] * 4 and runs(cloud) == [2] * 4
    worker = Path("worker.py")
    worker.write_text("raise SystemExit(7)\n" + WORKER)
    code, _, err = up("0")
    assert code == 0 and installs(cloud) == [1] * 4 and runs(cloud) == [3] * 4
    assert "1 changed files are not committed, and so not installed on the pod: worker.py" in err
    Path("gone.py").unlink()
    (cloud / "run1-0").mkdir(exist_ok=True)
    outputs = [path / "bagpiper" / "runs" for path in cloud.glob("*-*") if (path / "bagpiper").exists()]
    for output in outputs:
        output.mkdir()
    commit()
    code, _, err = up("0")
    assert code == 7 and installs(cloud) == [2] * 4, err
    assert verbs(cloud).count("create") == 1 and verbs(cloud).count("scp") == 2
    assert not list(cloud.glob("*/bagpiper/gone.py")), (
        "a module that was removed is not imported from an old commit"
    )
    assert len(outputs) == 4 and all(output.exists() for output in outputs), "what the jobs wrote stays"


def test_a_commit_made_meanwhile_waits_for_the_next_launch(cloud):
    """A launcher starts the same code again, as long as it lives, also on another pod."""
    plan(cloud, states=[["ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDED"], ["ACCEPTED", "ACTIVE"]])
    process = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "wait,0")
    wait_until(lambda: runs(cloud) == [1] * 4)
    Path("worker.py").write_text("raise SystemExit(7)\n")
    commit()
    for path in cloud.glob("*/bagpiper_runs/run1/state"):
        os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and runs(cloud) == [2] * 4, err


def test_code_is_never_changed_under_a_job_that_runs(cloud):
    process = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "wait")
    wait_until(lambda: runs(cloud) == [1] * 4)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    (before,) = {path.read_text() for path in cloud.glob("*/bagpiper/worker.py")}
    first = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True)[:12]
    Path("worker.py").write_text("raise SystemExit(7)\n")
    commit()
    code, _, err = up("wait")
    assert code == 2 and f"a job runs with the code of commit {first}" in err and "`stop` ends the job" in err
    assert {path.read_text() for path in cloud.glob("*/bagpiper/worker.py")} == {before}
    attempted = attempts(cloud)
    shutil.rmtree("runs")  # as from another machine, at the commit of the job
    subprocess.run(["git", "checkout", "-q", first], check=True)
    again = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "wait")
    wait_until(lambda: not attempts(cloud) & attempted)
    (cloud / "go").touch()
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0 and runs(cloud) == [1] * 4 and installs(cloud) == [1] * 4, err
