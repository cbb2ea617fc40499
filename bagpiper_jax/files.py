"""Files that are whole or absent, their checksums, and what is said when the disk refuses them."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax.errors import Explained

_TEMPORARY = re.compile(r".*\.tmp-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LONGEST_NAME = 60  # characters of a name that its temporary one repeats


class WriteError(Explained, OSError):
    """A file that cannot be written; the message names the path, what the disk says, and the remedy.

    Attributes:
        what: the disk refused: "No space left on device, 3 MiB are free there".
    """

    def __init__(self, message: str, what: str = "", errno: int | None = None):
        super().__init__(message, what, errno)
        self.what, self.errno = what, errno

    def __str__(self) -> str:
        return self.args[0]


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a small file in one stroke: a process killed on the way leaves the old file or the new one.

    Raises:
        WriteError: the disk is full, or refuses for another reason; the old file is as it was.
    """
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Gives the path of a temporary file, which becomes `path` when the block ends; if it fails, nothing is left.

    Raises:
        WriteError: the block or the renaming raised OSError.
    """
    temporary = temporary_path(path)
    try:
        with explained(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: str | os.PathLike) -> Path:
    """A name beside `path` that no other process, thread or machine takes; `remove_leftovers` knows whose it was."""
    path = Path(path)
    return path.with_name(f"{path.name[:_LONGEST_NAME]}.tmp-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}")


def is_temporary(path: str | os.PathLike) -> bool:
    """Whether a name is one of `temporary_path`'s: of a file that is being written, or that a dead process left."""
    return _TEMPORARY.fullmatch(Path(path).name) is not None


def remove_leftovers(directory: str | os.PathLike) -> None:
    """Removes temporary files directly in a directory whose processes ended on this machine without doing so."""
    for path in Path(directory).glob("*.tmp-*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found["host"] == _HOST and not _lives(int(found["process"])):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@contextlib.contextmanager
def explained(path: str | os.PathLike, remedy: str = "run the same command again") -> Iterator[None]:
    """Explains what the disk refuses within the block.

    Args:
        path: the file or directory that is written.
        remedy: what to do once it can be.

    Raises:
        WriteError: the block raised OSError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise refusal(path, error, remedy) from error


def refusal(
    path: str | os.PathLike, error: OSError, remedy: str = "run the same command again"
) -> WriteError:
    """The explanation of an error that writing `path` ended in."""
    what = error.what if isinstance(error, WriteError) else error.strerror or str(error)
    if error.errno in _FULL and not isinstance(error, WriteError):
        what += f", {shutil.disk_usage(_existing(Path(path))).free / 2**20:.0f} MiB are free there"
    message = f"cannot write {os.fspath(path)}: {what}. Free space or permissions there, or choose another directory"
    return WriteError(f"{message}, and {remedy}", what, error.errno)


def _existing(path: Path) -> Path:
    """The path or its nearest parent that exists."""
    return next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))


def is_within(directory: str | os.PathLike, path: str | os.PathLike) -> bool:
    """Whether a path, relative to a directory or absolute, ends inside it once links are followed.

    Paths that come with data are asked this before they are opened: `../` and links must not lead to other files.
    """
    root = os.path.realpath(directory)
    try:
        return os.path.commonpath([root, os.path.realpath(os.path.join(root, path))]) == root
    except ValueError:  # a null byte
        return False


def synchronize(directory: str | os.PathLike) -> None:
    """Waits until every file below a directory is on disk, power cuts included."""
    for folder, _, names in os.walk(os.fspath(directory)):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
