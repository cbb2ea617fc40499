"""The pod launchers against a gcloud and an xpk that misbehave; the jobs on their hosts are real processes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import GOLDEN, REPOSITORY, TESTS

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
        ("xpk_image", "xpk_pod.py", "up", ["--cluster=c", "--image=gcr.io/p/i:1", "--whole", *POD, *JOB]),
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


def attempts(root):
    return {json.loads(path.read_text())["attempt"] for path in root.glob("*/bagpiper_runs/run1/state")}


def installs(root):
    return [len(path.read_text().splitlines()) for path in root.glob("*/installs")]


@pytest.mark.parametrize(
    "job",
    [
        ["train"],
        ["bagpiper", "train"],
        ["bagpiper_jax", "train"],
        ["python", "-m", "bagpiper_jax", "train"],
        ["python3", "-m", "bagpiper_jax", "train"],
        ["/usr/bin/python3.12", "-m", "train"],
    ],
)
@pytest.mark.parametrize("script, more", [("tpu_pod.py", []), ("xpk_pod.py", ["--cluster=c"])])
def test_a_job_may_be_named_as_one_runs_it_at_home(cloud, script, more, job):
    flags = [*POD, *more, "--", *job, "--gin_file=runs/a.gin"]
    out, err = launch(script, "up", "--dry_run", *flags).communicate(timeout=300)
    assert "python -m bagpiper_jax train --gin_file=runs/a.gin" in out and not err


@pytest.mark.parametrize(
    "job, words",
    [
        (["tran"], "there is no job 'tran'; did you mean 'train'?"),
        (["bagpiper_jax.train"], "there is no job 'bagpiper_jax.train'; did you mean 'train'?"),
        (["bagpiper_jax.data.loader"], "there is no job 'bagpiper_jax.data.loader'; known: build_corpus, "),
        (["python", "train.py"], "there is no job 'python'; known: "),
        (["python", "-m"], "'python -m' names no job; known: "),
        (["bagpiper"], "'bagpiper' names no job; known: "),
        (["--gin_file=gin/runs/a.gin"], "there is no job '--gin_file=gin/runs/a.gin'; "),
    ],
)
def test_a_job_that_does_not_exist_is_named_before_the_pod_is_asked_for(cloud, job, words):
    for script, more in (("tpu_pod.py", []), ("xpk_pod.py", ["--cluster=c"])):
        process = launch(script, "up", *POD, *more, "--", *job)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2 and words in err and "Traceback" not in err
    assert not (cloud / "calls.jsonl").exists()


@pytest.mark.parametrize(
    "text, flags, words",
    [
        ("", ["--gin_file=gin/runs/b.gin"], "gin file 'gin/runs/b.gin' is not in"),
        ("", ["--gin_file=gin/runs/aa.gin"], "did you mean 'gin/runs/a.gin'?"),
        ("", ["--gin_file", "runs/b.gin"], "gin file 'runs/b.gin' is not in"),
        ("", ["--gin_file=gin/runs"], "gin file 'gin/runs' is not in"),
        ("", ["--gin_file="], "gin file '' is not in"),
        (
            "",
            ["--gin_file=gin/runs/a.gin", "--gin_file=c.gin", "--gin_file=d.gin"],
            "gin file 'd.gin' is not in",
        ),
        ("include 'gin/models/gone.gin'\n", [], "gin/runs/a.gin:1: gin file 'gin/models/gone.gin' is not in"),
        ("# one\n\ninclude  'gone'  \".gin\"  # two\n", [], "a.gin:3: gin file 'gone.gin' is not in"),
        ("include 'c.gin'\n", [], "gin/runs/c.gin:2: gin file 'gone.gin' is not in"),
        ("A.b = (1\n", [], "gin/runs/a.gin: "),
        ("A.b = '''\n", [], "gin/runs/a.gin: "),
        (b"A.b = '\xff'\n", [], "gin/runs/a.gin: 'utf-8' codec can't decode"),
    ],
)
@pytest.mark.parametrize("script, more", [("tpu_pod.py", []), ("xpk_pod.py", ["--cluster=c"])])
def test_gin_files_are_read_before_the_pod_is_asked_for(cloud, script, more, text, flags, words):
    Path("gin/runs/a.gin").write_bytes(text if isinstance(text, bytes) else text.encode())
    Path("gin/runs/c.gin").write_text("A.b = 1\ninclude 'gone.gin'\n")
    commit()
    flags = [*POD, *more, "--", "train", *(flags or ["--gin_file=gin/runs/a.gin"])]
    process = launch(script, "up", *flags)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and words in err and "Traceback" not in err
    assert not (cloud / "calls.jsonl").exists()
    process = launch(script, "up", "--dry_run", *flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and words in err and "bagpiper_jax train" in out


def test_gin_files_that_are_there_stop_nobody(cloud):
    """What looks like an include is none; includes may be beside their file, in circles, or on a disk of the pod."""
    text = """
    include 'b # c.gin'
    include "gin/runs/a.gin"
    # include 'gone.gin'
    A.b = '''
    include 'gone.gin'
    '''
    A.c = [
    include, 'gone.gin']
    include = 'gone.gin'
    include '/mnt/disk/any.gin'
    """
    Path("gin/runs/a.gin").write_text("\n".join(line.strip() for line in text.splitlines()))
    Path("gin/runs/b # c.gin").write_bytes(b"\xef\xbb\xbfinclude 'runs/a.gin'\r\n")
    commit()
    process = launch("xpk_pod.py", "up", "--cluster=c", *POD, *JOB)
    assert process.wait(300) == 0
    command = [*POD, "--poll_seconds=0.05", "--", "worker", "0", "--gin_file=runs/a.gin"]
    assert launch("tpu_pod.py", "up", *command).wait(300) == 0


def test_a_gin_file_that_is_not_committed_would_not_be_on_the_pod(cloud):
    Path("gin/runs/new.gin").write_text("A.b = 1\n")
    flags = [*POD, "--", "train", "--gin_file=gin/runs/new.gin"]
    process = launch("tpu_pod.py", "up", *flags)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and "'gin/runs/new.gin' is not in the last commit; commit it" in err
    assert not (cloud / "calls.jsonl").exists()
    assert launch("xpk_pod.py", "up", "--cluster=c", *flags).wait(300) == 0, "XPK copies the folder as it is"


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


def wait_until(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
