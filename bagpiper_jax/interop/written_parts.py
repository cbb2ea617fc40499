"""What of an import is on disk already, so that the same command continues after any kind of end."""

import zlib
from pathlib import Path

import numpy as np

from bagpiper_jax import journal
from bagpiper_jax.interop import partial

FILE = "journal.jsonl"


class WrittenParts:
    """The journal in a directory that is being written: first what is imported, then each part that is on disk.

    Raises:
        JournalError: another process writes the directory.
    """

    def __init__(self, directory: Path, job: dict):
        self._journal, self._job = journal.Journal(directory / FILE), job
        lines = [line for _, line in self._journal]
        self.resumed = lines[:1] == [job]
        if not self.resumed:
            self._journal.clear()
            partial.clear(directory, kept=self._journal.path)
        done = [
            line for line in lines[1:] if self.resumed and line.keys() == {"name", "start", "stop", "crc32"}
        ]
        self._parts = {(part["name"], part["start"], part["stop"]): part["crc32"] for part in done}

    def begin(self) -> None:
        """Everything that parts are written into exists from now on."""
        self._journal.append(self._job)

    def done(self, name: str, start: int, stop: int, crc: int) -> None:
        """A part with this `checksum` is written."""
        self._journal.append({"name": name, "start": start, "stop": stop, "crc32": crc})

    def checksum_of(self, name: str, start: int, stop: int) -> int | None:
        """The checksum of a part that was written, None if it was not."""
        return self._parts.get((name, start, stop))

    def finish(self) -> None:
        """The directory is whole: it needs no journal any more."""
        self._journal.close()
        self._journal.path.unlink()


def checksum(values: np.ndarray) -> int:
    """CRC-32 of the values as they lie in memory in C order."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
