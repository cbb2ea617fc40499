"""Flags of libtpu's compiler. The gin file of a slice says them; plans and runs compile with the same ones.

A step is compiled with them as its options. A run also puts them in `LIBTPU_INIT_ARGS` before libtpu is loaded, so
that all other programs of the process are compiled so. libtpu ends a process whose variable has a flag that it does not
know, and versions differ in what they know; so names are looked up in the installed library first.
"""

import importlib.util
import mmap
import os
import re
from collections.abc import MutableMapping, Sequence
from importlib import metadata
from pathlib import Path

from bagpiper_jax.errors import Explained

VARIABLE = "LIBTPU_INIT_ARGS"
LIBRARY = "TPU_LIBRARY_PATH"
"""The variable that names another libtpu.so than that of the installed package."""


class FlagError(Explained, ValueError):
    """A flag of the compiler that is none, or that the installed libtpu does not know; the message names it."""


_SWITCHES = {"true": True, "false": False}


def options(flags: Sequence[str]) -> dict[str, str | bool]:
    """Name → value of flags that are written as "--name=value". Raises FlagError: one is not."""
    found = {}
    for flag in flags:
        form = re.fullmatch(r"--(xla_\w+)=(\S+)", flag)
        if not form:
            raise FlagError(f"{flag!r} is no flag of the compiler; write it as '--xla_name=value'")
        if form[1] in found:
            raise FlagError(f"--{form[1]} is given twice; leave one of its values")
        found[form[1]] = _SWITCHES.get(form[2], form[2])  # a switch's text is no value of it to the compiler
    return found


def require_known(flags: Sequence[str]) -> None:
    """Raises FlagError: the installed libtpu does not know one of them. Without libtpu nothing is said."""
    library = _library()
    if not flags or library is None:
        return
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        unknown = [f"--{name}" for name in options(flags) if held.find(name.encode() + b"\0") < 0]
    if unknown:
        raise FlagError(
            f"libtpu {version()} does not know {', '.join(unknown)}; install the libtpu that the flags were chosen for "
            "(docs/plan.md, Flags of the compiler), or bind TrainConfig.compiler_flags without them"
        )


def export(flags: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Puts the flags in `LIBTPU_INIT_ARGS`, before those that stand there, which therefore win.

    Call it before a backend of JAX starts. Raises FlagError as `require_known` does.
    """
    require_known(flags)
    if flags:
        environment[VARIABLE] = " ".join([*flags, environment.get(VARIABLE, "")]).strip()


def version() -> str | None:
    """Of the installed libtpu; None where there is none."""
    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None


def _library() -> Path | None:
    if named := os.environ.get(LIBRARY):
        return Path(named)
    spec = importlib.util.find_spec("libtpu")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for place in places if (path := Path(place) / "libtpu.so").exists()), None)
