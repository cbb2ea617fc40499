"""The command line: the list of jobs, and how a job ends."""

import errno
import importlib
import pkgutil
import subprocess
import sys

import pytest

from bagpiper_jax import jobs
from bagpiper_jax.configuration import ConfigurationError
from bagpiper_jax.pods.roll_call import MissingError


def _raises(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "main, code, said",
    [
        (_raises(ConfigurationError("Job.steps expects int")), 2, "train: Job.steps expects int\n"),
        (_raises(MissingError("host b did not come")), 75, "train: host b did not come\n"),
        (_raises(SystemExit(75)), 75, ""),
        (lambda: None, 0, ""),
        (lambda: 4, 4, ""),
    ],
)
def test_explained_faults_end_with_their_code_and_their_message_alone(capsys, main, code, said):
    with pytest.raises(SystemExit) as end:
        jobs.end_with("train", main)
    assert (end.value.code or 0) == code
    assert capsys.readouterr() == ("", said)


def test_what_nobody_explained_keeps_its_traceback(capsys):
    with pytest.raises(SystemExit) as end:
        jobs.end_with("train", lambda: 1 / 0)
    said = capsys.readouterr().err
    assert end.value.code == 1 and "Traceback" in said and "ZeroDivisionError" in said


@pytest.mark.parametrize(
    "number, code, part",
    [
        (errno.ENOSPC, 2, "free space there"),
        (errno.EACCES, 2, "this user may use"),
        (errno.EBADF, 1, "Traceback"),
    ],
)
def test_a_fault_of_the_machine_is_explained_and_one_of_the_program_is_not(capsys, number, code, part):
    with pytest.raises(SystemExit) as end:
        jobs.end_with("train", _raises(OSError(number, "said by the system", "/a/place")))
    said = capsys.readouterr().err
    assert end.value.code == code and part in said and "/a/place" in said


def test_every_file_of_the_room_is_a_job_of_the_list_and_has_its_own_line():
    assert sorted(jobs.JOBS) == sorted(module.name for module in pkgutil.iter_modules(jobs.__path__))
    assert len(set(jobs.JOBS.values())) == len(jobs.JOBS)


@pytest.mark.parametrize("name", jobs.JOBS)
def test_every_job_has_a_main(name):
    assert callable(importlib.import_module(f"bagpiper_jax.jobs.{name}").main)


@pytest.mark.parametrize("name", jobs.JOBS)
def test_the_usage_line_of_every_job_can_be_typed(name, capsys):
    with pytest.raises(SystemExit) as end:
        jobs.run(name, ["--help"])
    assert not end.value.code and capsys.readouterr().out.startswith(f"usage: bagpiper {name} [-h]")


@pytest.mark.parametrize(
    "flags, code, part",
    [([], 0, "build_corpus"), (["--help"], 0, "evaluate"), (["tain"], 2, "did you mean 'train'?")],
)
def test_the_command_line_lists_the_jobs_in_order_and_corrects_a_name(flags, code, part):
    ended = subprocess.run([sys.executable, "-m", "bagpiper_jax", *flags], capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode == code and part in said and "Traceback" not in said
    places = [said.index(f"\n  {name} ") for name in jobs.JOBS]
    assert places == sorted(places)
