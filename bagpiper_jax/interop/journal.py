"""What of an import is on disk already, so that the same command continues after any kind of end."""

import json
import zlib
from pathlib import Path

import numpy as np

from bagpiper_jax import strict
from bagpiper_jax.interop import partial

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
        partial.lock(self._file, directory)
        lines = self._read()
        self.resumed = bool(lines) and lines[0] == job
        if not self.resumed:
            self._clear()
        done = lines[1:] if self.resumed else []
        self._parts = {(part["name"], part["start"], part["stop"]): part["crc32"] for part in done}

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

    def _read(self) -> list[dict]:
        self._file.seek(0)
        lines, end = [], 0
        for line in self._file:
            entry = _entry(line, is_first=not lines)
            if entry is None:
                self._file.truncate(end)
                break
            lines.append(entry)
            end += len(line)
        return lines

    def _clear(self) -> None:
        self._file.truncate(0)
        partial.clear(self._path.parent, self._path)


def _entry(line: bytes, is_first: bool) -> dict | None:
    """What a line says, None for one that is torn or damaged."""
    try:
        entry = strict.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(entry, dict)
    return entry if whole and (is_first or entry.keys() == {"name", "start", "stop", "crc32"}) else None


def checksum(values: np.ndarray) -> int:
    """CRC-32 of the values as they lie in memory in C order."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
