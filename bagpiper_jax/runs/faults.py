"""How a run ends when it cannot go on: one file that says why, and an exit code that says what to do."""

import contextlib
import logging
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator

import jax
from etils import epath

from bagpiper_jax.errors import Explained
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.output_lock import OutputError

_log = logging.getLogger(__name__)

FILE = "crash.txt"


class TrainingError(Explained):
    """Training cannot go on; the message says at which step and why."""


@contextlib.contextmanager
def reported(output: str | os.PathLike, ledger: Ledger) -> Iterator[None]:
    """Writes what ends this process early to `<output>/crash.txt`, and closes its account.

    `crash.txt` is written by the process that fails first; those that fall with it write `crash.<process>.txt`. An
    output that is in use, or cannot be written to, is left alone.
    """
    try:
        yield
    except OutputError:
        raise
    except BaseException as error:
        ledger.end = f"{type(error).__name__}: {error}"
        write_crash(epath.Path(output), ledger, error)
        with contextlib.suppress(OSError):
            ledger.save()
        raise


def write_crash(output: epath.Path, ledger: Ledger, error: BaseException) -> None:
    """The report of one process; does not raise."""
    text = "".join(traceback.format_exception(error))
    try:
        output.mkdir(parents=True, exist_ok=True)
        where = _write_new(output, crash_text(ledger, error, text), ledger.began)
        _log.error("%s: %s; the report is %s", where_and_when(ledger), error, where)
    except Exception as second:  # each file system of a cloud has its own kinds
        _log.error(
            "%s; no report could be written to %s: %s\n%s", where_and_when(ledger), output, second, text
        )


def crash_text(ledger: Ledger, error: BaseException, trace: str) -> str:
    message = f"{type(error).__name__}: {error}"
    seconds = ", ".join(f"{phase} {n:.1f}" for phase, n in ledger.seconds.items() if n)
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{where_and_when(ledger)}\n\n{message}\n\n"
        f"command: {' '.join(sys.argv)}\nseconds: {seconds}\n\n{trace}"
    )


def where_and_when(ledger: Ledger) -> str:
    return f"{process_name()} failed during {ledger.phase} at step {ledger.step}"


def process_name() -> str:
    """`process 3 (host-a)`."""
    return f"process {process_index()} ({socket.gethostname()})"


def process_index() -> int:
    """Of this process, without starting a backend that was not in use."""
    return (
        jax.process_index() if jax.distributed.is_initialized() else int(os.environ.get("JAX_PROCESS_ID", 0))
    )


def set_aside(output: epath.Path, before: float = math.inf) -> None:
    """Gives the report of an earlier attempt the time of its crash as a name."""
    path = output / FILE
    if path.exists() and (when := path.stat().mtime) < before - 1:  # whole seconds
        path.rename(output / time.strftime("crash.%Y%m%d-%H%M%S.txt", time.localtime(when)))


def _write_new(output: epath.Path, text: str, began: float) -> epath.Path:
    set_aside(output, began)
    path = output / FILE
    if path.exists():  # another process of this attempt failed first
        path = output / f"crash.{process_index()}.txt"
    path.write_text(text)
    return path
