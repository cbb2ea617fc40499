"""A job that computes on CPU puts itself once in its own place, with huge pages, and is the same command still."""

import json
import os
import subprocess
import sys

import pytest
from places import REPOSITORY

from bagpiper_jax.runs import huge_pages
from bagpiper_jax.runs.huge_pages import SETTING, with_huge_pages

# Python imports it at each start: it notes the start, and stands in for what the system says of huge pages.
EVERY_START = """
import json, os, sys
from pathlib import Path
from bagpiper_jax.runs import huge_pages
huge_pages.MODES = Path(os.environ["MODES"])
with open(os.environ["STARTS"], "a") as file:
    line = [os.getpid(), sys.orig_argv[1:], os.environ.get("GLIBC_TUNABLES"), "jax" in sys.modules]
    file.write(json.dumps(line) + chr(10))
"""
FLAGS = ["--text=a dog, then 'a bell'", "--checkpoint=no such run"]


def _glibc() -> tuple[int, ...]:
    try:
        name, _, release = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError):
        return (0,)
    return tuple(map(int, release.split("."))) if name == "glibc" else (0,)


needs_glibc = pytest.mark.skipif(_glibc() < (2, 35), reason="glibc 2.35 has the setting")


def started(directory, job: str, modes: str, flags=FLAGS, **variables) -> tuple[list, int, int, str]:
    """Every start of Python in the place of one job; its process id, exit code and what it said."""
    (directory / "sitecustomize.py").write_text(EVERY_START)
    (directory / "modes").write_text(modes)
    named = {"MODES": str(directory / "modes"), "STARTS": str(directory / "starts")}
    path = {"PYTHONPATH": f"{directory}:{REPOSITORY}", "JAX_PLATFORMS": "cpu"}
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bagpiper_jax", job, *flags], cwd=directory, text=True,
        env=kept | path | named | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = process.communicate(timeout=300)[0]
    starts = [json.loads(line) for line in (directory / "starts").read_text().splitlines()]
    return starts, process.pid, process.returncode, said


@needs_glibc
def test_it_starts_again_once_as_the_same_process_with_the_same_arguments_and_exit_code(tmp_path):
    starts, pid, code, said = started(tmp_path, "generate", "always [madvise] never\n")
    command = ["-m", "bagpiper_jax", "generate", *FLAGS]
    assert starts == [[pid, command, None, False], [pid, command, SETTING, False]]
    assert code == 2 and "no such run" in said and "Traceback" not in said


@needs_glibc
def test_what_the_user_tuned_besides_stays(tmp_path):
    starts, *_ = started(tmp_path, "generate", "[madvise]", GLIBC_TUNABLES="glibc.malloc.tcache_count=3")
    assert [start[2] for start in starts] == [
        "glibc.malloc.tcache_count=3",
        f"glibc.malloc.tcache_count=3:{SETTING}",
    ]


@pytest.mark.parametrize("job, modes, variables", [
    ("generate", "always [madvise] never", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}),
    ("generate", "[always] madvise never", {}),
    ("generate", "always madvise [never]", {}),
    ("inspect_data", "always [madvise] never", {}),
])  # fmt: skip
def test_it_starts_once_where_that_is_decided_or_brings_nothing(tmp_path, job, modes, variables):
    starts, _, code, _ = started(tmp_path, job, modes, ["--help"], **variables)
    assert len(starts) == 1 and code == 0


@needs_glibc
@pytest.mark.parametrize("platforms, installed, wanted", [
    ("cpu", ("libtpu",), SETTING), ("cuda,cpu", (), None), ("tpu", (), None),
    ("", (), SETTING), ("", ("libtpu",), None), ("", ("jax_plugins",), None),
])  # fmt: skip
def test_only_a_job_on_cpu_asks(tmp_path, monkeypatch, platforms, installed, wanted):
    (tmp_path / "modes").write_text("always [madvise] never")
    monkeypatch.setattr(huge_pages, "MODES", tmp_path / "modes")
    monkeypatch.setattr(huge_pages.importlib.util, "find_spec", lambda name: name in installed or None)
    assert with_huge_pages({"JAX_PLATFORMS": platforms}) == wanted


@pytest.mark.parametrize("libc", [None, "glibc 2.34", "musl 1.2", "glibc"])
def test_another_c_library_is_left_alone(tmp_path, monkeypatch, libc):
    (tmp_path / "modes").write_text("always [madvise] never")
    monkeypatch.setattr(huge_pages, "MODES", tmp_path / "modes")
    monkeypatch.setattr(huge_pages.os, "confstr", lambda name: libc)
    assert with_huge_pages({"JAX_PLATFORMS": "cpu"}) is None


def test_a_program_that_calls_the_command_line_is_not_replaced(tmp_path, monkeypatch):
    """pytest's own command is another: it would start again from its beginning."""
    monkeypatch.setattr(huge_pages, "with_huge_pages", lambda environment: SETTING)
    monkeypatch.setattr(huge_pages.os, "execve", lambda *_: pytest.fail("the process was replaced"))
    monkeypatch.setattr(sys, "argv", ["bagpiper", "generate", "--text=a"])
    huge_pages.start_again_with_huge_pages()
