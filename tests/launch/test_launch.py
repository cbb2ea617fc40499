"""The pod launchers against a gcloud and an xpk that misbehave; the jobs on their hosts are real processes."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from launching import (
    JOB,
    POD,
    QUOTA,
    children,
    launch,
    plan,
    runs,
    up,
    verbs,
    wait_until,
)
from places import GOLDEN


@pytest.mark.parametrize(
    "name, script, action, flags",
    [
        ("tpu_up", "tpu_pod.py", "up", [*POD, *JOB]),
        (
            "tpu_single_host",
            "tpu_pod.py",
            "up",
            ["--name=one", "--project=p", "--zone=z", "--type=v5e-8", *JOB],
        ),
        ("tpu_delete", "tpu_pod.py", "delete", POD),
        ("tpu_stop", "tpu_pod.py", "stop", POD),
        ("xpk_up", "xpk_pod.py", "up", ["--cluster=c", *POD, *JOB]),
        ("xpk_image", "xpk_pod.py", "up", ["--cluster=c", "--image=gcr.io/p/i:1", *POD, *JOB]),
        ("xpk_status", "xpk_pod.py", "status", ["--cluster=c", *POD]),
        ("xpk_logs", "xpk_pod.py", "logs", ["--cluster=c", *POD]),
        ("xpk_delete", "xpk_pod.py", "delete", ["--cluster=c", *POD]),
        ("xpk_create_cluster", "xpk_pod.py", "create_cluster", ["--cluster=c", *POD]),
        ("xpk_delete_cluster", "xpk_pod.py", "delete_cluster", ["--cluster=c", *POD]),
    ],
)
def test_a_dry_run_prints_every_command_and_runs_none(cloud, name, script, action, flags):
    """Update with BAGPIPER_UPDATE_GOLDEN=1 and read the difference."""
    process = launch(script, action, "--dry_run", *flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert not (cloud / "calls.jsonl").exists()
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("BAGPIPER_UPDATE_GOLDEN"):
        golden.write_text(out)
    assert out == golden.read_text()


def test_a_job_that_asks_for_it_is_started_again_on_the_same_pod(cloud):
    code, out, err = up("75,0")
    assert code == 0, err
    assert runs(cloud) == [2, 2, 2, 2]
    assert verbs(cloud).count("create") == 1
    assert [len(path.read_text().splitlines()) for path in cloud.glob("*/installs")] == [1] * 4
    for index in range(4):
        log = Path("runs/pods/run1", f"{index}.log").read_text().splitlines()
        shown = [line.split(" pid ")[0] for line in log]
        assert shown == [f"run {n} 10.0.0.0:8476 4 {index}" for n in (0, 1)], (
            "one log per host, over all attempts"
        )
        assert f"[{index}] run 1" in out


def test_a_pod_that_was_taken_away_is_replaced(cloud):
    plan(cloud, states=[["ACTIVE", "ACTIVE", "SUSPENDED"], ["ACCEPTED", "ACTIVE"]])
    code, _, err = up("kill,0")
    assert code == 0, err
    assert "run1 is SUSPENDED; deleting it to ask for another one" in err
    assert [v for v in verbs(cloud) if v in ("create", "delete")] == ["create", "delete", "create"]
    assert [len(path.read_text().splitlines()) for path in cloud.glob("*/installs")] == [2] * 4


def test_a_killed_process_is_started_again_with_all_others(cloud):
    code, _, err = up("kill,0")
    assert code == 0, err
    assert runs(cloud) == [2] * 4 and "the first was 137; run1 is ACTIVE" in err


def test_a_fault_of_the_job_is_not_tried_again(cloud):
    code, _, err = up("2")
    assert code == 2 and runs(cloud) == [1] * 4
    assert "no fault that another start would mend: read runs/pods/run1/" in err


def test_a_job_that_ends_at_once_again_and_again_is_given_up(cloud):
    code, _, err = up("75")
    assert code == 2 and runs(cloud) == [3] * 4
    assert "ended 3 times within 300 s" in err


def test_missing_quota_is_explained(cloud):
    plan(cloud, create=[QUOTA])
    code, _, err = up("0")
    assert code == 2
    assert "Limit: 0" in err and "ask for quota, or change --type, --zone or --spot" in err
    assert "Traceback" not in err


def test_a_refused_request_is_explained_and_missing_tools_too(cloud, monkeypatch):
    plan(cloud, states=[["FAILED"]])
    code, _, err = up("0")
    assert code == 2 and "the request for run1 failed: no reason given. `delete` removes it" in err
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    code, _, err = up("0")
    assert code == 2 and "gcloud is not installed; see docs/running.md" in err


def test_a_broken_connection_leads_back_to_the_running_job(cloud):
    """The launcher's connections are killed; it attaches again, and the job has run once."""
    process = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "wait")
    wait_until(lambda: runs(cloud) == [1] * 4)
    for connection in children(process.pid):
        os.kill(connection, signal.SIGKILL)
    wait_until(lambda: verbs(cloud).count("ssh") >= 1 + 2 * 4)
    (cloud / "go").touch()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert runs(cloud) == [1] * 4


def test_interrupting_the_launcher_leaves_the_job_running_and_stop_ends_it(cloud):
    process = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "wait")
    wait_until(lambda: len(list(cloud.glob("*/bagpiper_runs/run1/state"))) == 4 and runs(cloud) == [1] * 4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "detached; what runs on the pod goes on" in err
    jobs = [json.loads(p.read_text())["pid"] for p in cloud.glob("*/bagpiper_runs/run1/state")]
    assert runs(cloud) == [1] * 4 and all(Path(f"/proc/{pid}").exists() for pid in jobs)
    other = launch("tpu_pod.py", "up", *POD, "--poll_seconds=0.05", "--", "worker", "0")
    _, err = other.communicate(timeout=300)
    assert other.returncode == 2 and "another job runs on run1" in err
    assert all(Path(f"/proc/{pid}").exists() for pid in jobs)
    assert launch("tpu_pod.py", "stop", *POD).wait(300) == 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in jobs))


def test_xpk_runs_what_the_dry_run_shows_and_explains_its_errors(cloud):
    process = launch("xpk_pod.py", "up", "--cluster=c", *POD, *JOB)
    assert process.wait(300) == 0
    shown = launch("xpk_pod.py", "up", "--cluster=c", "--dry_run", *POD, *JOB).communicate(timeout=300)[0]
    (call,) = map(json.loads, (cloud / "calls.jsonl").read_text().splitlines())
    assert ["xpk", *call] == shlex.split(shown)
    (cloud / "xpk_error").write_text("[XPK] Quota 'TPUS_PER_PROJECT' exceeded")
    process = launch("xpk_pod.py", "up", "--cluster=c", *POD, *JOB)
    assert "ask for quota" in process.communicate(timeout=300)[1] and process.returncode == 2


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--type=v9-8"], "'v9-8' is no TPU type; known: v4-N"),
        (["--name=My_Run"], "'My_Run' is no name"),
        (["--reserved"], "choose --spot or --reserved"),
    ],
)
def test_bad_settings(wrong, message):
    process = launch("tpu_pod.py", "status", *POD, *wrong)
    assert message in process.communicate(timeout=300)[1] and process.returncode == 2
