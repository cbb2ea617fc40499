"""What of an import is on disk already, so that the same command continues after any kind of end."""

import fcntl
import json
import shutil
import zlib
from pathlib import Path

import numpy as np

from bagpiper_jax.interop.names import InterchangeError

FILE = "journal.jsonl"


class Journal:
    """The journal in a directory that is being written.

    Its first line says what is imported; then each part that is on disk has a line with its checksum. A torn last
    line, the trace of a kill, counts for nothing.
    """

    def __init__(self, directory: Path, job: dict):
        directory.mkdir(parents=True, exist_ok=True)
        self._path, self._job = directory / FILE, job
        self._file = open(self._path, "a+b")
        self._lock()
        lines = self._read()
        self.resumed = bool(lines) and lines[0] == job
        if not self.resumed:
            self._clear()
        self._parts = {(p["name"], p["start"], p["stop"]): p["crc32"] for p in lines[1:] if self.resumed}

    def begin(self) -> None:
        """Everything that parts are written into exists from now on."""
        self._append(self._job)

    def done(self, name: str, start: int, stop: int, crc: int) -> None:
        """A part with this `checksum` is written."""
        self._append({"name": name, "start": start, "stop": stop, "crc32": crc})

    def checksum_of(self, name: str, start: int, stop: int) -> int | None:
        """The checksum of a part that was written, None if it was not."""
        return self._parts.get((name, start, stop))

    def finish(self) -> None:
        self._file.close()
        self._path.unlink()

    def _append(self, line: dict) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InterchangeError(f"another process writes {self._path.parent}; wait for it") from error

    def _read(self) -> list[dict]:
        self._file.seek(0)
        lines, end = [], 0
        for line in self._file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                self._file.truncate(end)
                break
            end += len(line)
        return lines

    def _clear(self) -> None:
        self._file.truncate(0)
        for entry in self._path.parent.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self._path:
                entry.unlink()


def checksum(values: np.ndarray) -> int:
    """CRC-32 of the values as they lie in memory in C order."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
