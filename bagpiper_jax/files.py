"""Files that are whole or absent, and their checksums."""

import hashlib
import os


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a small file in one stroke: a process killed on the way leaves the old file or the new one."""
    temporary = f"{os.fspath(path)}.tmp-{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def synchronize(directory: str | os.PathLike) -> None:
    """Waits until every file below a directory is on disk, power cuts included."""
    for folder, _, names in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
