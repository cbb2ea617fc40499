"""One run at a time in an output: a second one would replace checkpoints and metrics of the first without a word.

A directory is locked by the run's first process, and the kernel unlocks it however that process ends. A bucket cannot
be locked. There the sign of life of a run's first process tells: one that changes while it is looked at is alive.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from bagpiper_jax.errors import Explained
from bagpiper_jax.runs.signs import read_sign

_log = logging.getLogger(__name__)

FILE = "running.json"
_FRESH_SECONDS = 600
_POLL_SECONDS = 1.0


class OutputError(Explained):
    """An output that cannot be written to."""


class OutputInUseError(OutputError):
    """Another run is alive in this output; the message says which."""


@contextlib.contextmanager
def hold(directory: str | os.PathLike) -> Iterator[None]:
    """Locks a local directory, made if missing, for this process.

    Raises:
        OutputInUseError: another process holds it.
        OutputError: it cannot be written to.
    """
    path = Path(directory) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot write to the output {directory}: {error}. Choose another, or change its permissions"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputInUseError(_in_use(directory, path)) from None
        except OSError as error:  # a file system without locks
            _log.warning(
                "%s cannot be locked (%s): see to it that no other run writes there", directory, error
            )
        _write(
            file,
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            },
        )
        try:
            yield
        finally:
            _write(file, {})


def require_quiet(sign: epath.Path, beat_seconds: float) -> None:
    """Raises OutputInUseError if the run that leaves the sign of life `sign` is alive.

    Looks at a sign for three beats where it is younger than ten minutes and does not say that its run has ended.
    """
    first = read_sign(sign)
    if not first or first.get("ended") or abs(time.time() - first["time"]) > _FRESH_SECONDS:
        return
    _log.info("%s is fresh: looking whether its run is alive", sign)
    end = time.monotonic() + 3 * beat_seconds
    while time.monotonic() < end:
        time.sleep(min(_POLL_SECONDS, beat_seconds))
        if read_sign(sign) != first:
            raise OutputInUseError(
                f"{sign.parent.parent} is in use by process {first.get('pid')} on {first.get('host')}. Wait for it or "
                "end it, or choose another output"
            )


def _in_use(directory: str | os.PathLike, path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun
        who = "another process"
    return f"{directory} is in use by {who}. Wait for it or end it, or choose another output"


def _write(file, holder: dict) -> None:
    """What those who are refused read. It is not the lock, so a full disk does no harm."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(json.dumps(holder) + "\n")
        file.flush()
