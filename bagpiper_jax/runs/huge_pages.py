"""Huge pages for a job that computes on CPU.

XLA's buffers come from malloc and go back to the system, step after step: in pages of 4 KiB that is tens of thousands
of faults a step of the nano model. glibc asks for huge ones if a variable says so when the process starts, and only
where the system gives them to those that ask (`madvise`); docs/performance.md, Huge pages, has what it brings.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb=1"
MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ACCELERATORS = ("jax_plugins", "libtpu")


def start_again_with_huge_pages() -> None:
    """Puts this very command in the place of the process, once, with huge pages; returns where they would not help.

    Its process id, arguments and open files stay. Call it before anything is loaded.
    """
    tunables = with_huge_pages(os.environ)
    if tunables is None or not _is_ours():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError):  # then the job is slower, and no worse
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: tunables})


def with_huge_pages(environment: Mapping[str, str]) -> str | None:
    """glibc's tunables with huge pages; None where they are decided already, or nothing would come of them."""
    given = environment.get(VARIABLE, "")
    if "glibc.malloc.hugetlb" in given or not (_computes_on_cpu(environment) and _has_an_effect()):
        return None
    return f"{given}:{SETTING}" if given else SETTING


def _computes_on_cpu(environment: Mapping[str, str]) -> bool:
    """Whether JAX will, by what it is told or else by what is installed; it is not loaded for the question."""
    if platforms := environment.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(importlib.util.find_spec(name) for name in _ACCELERATORS)


def _has_an_effect() -> bool:
    """Whether glibc knows the setting (2.35) and the system gives huge pages to those that ask, and only to them."""
    try:
        name, _, release = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = map(int, release.split(".")[:2])
        return name == "glibc" and (major, minor) >= (2, 35) and "[madvise]" in MODES.read_text()
    except (OSError, ValueError, AttributeError):  # another C library, another system
        return False


def _is_ours() -> bool:
    """Whether the process was started for this command, and not by a program that calls it, such as a test."""
    given = sys.argv[1:]
    return bool(given) and sys.orig_argv[-len(given) :] == given
