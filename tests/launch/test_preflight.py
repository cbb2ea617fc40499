"""What is found wrong with a job before a pod is asked for."""

from pathlib import Path

import pytest
from launching import JOB, POD, commit, launch


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
        (["bagpiper_jax.data.records"], "there is no job 'bagpiper_jax.data.records'; known: benchmark, "),
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
