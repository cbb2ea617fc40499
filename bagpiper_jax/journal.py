"""A journal: what is finished, one JSON object a line, so that a killed job continues where it was.

One process writes a journal at a time. A line is on the disk when `sync` returns. A line that a kill tore is dropped
when the journal is opened again.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)
_BLOCK = 1 << 16


class JournalError(Explained):
    """A journal that another process writes, or that cannot be read or written; names the file."""


def lock(file: IO[bytes], path: str | os.PathLike) -> None:
    """Makes this process the one writer of an open file, until it closes it. Raises JournalError: another one is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(
            f"{path} is in use by another process, which does the same work; wait until it has ended"
        ) from error
    except OSError as error:
        raise JournalError(
            f"{path} cannot be locked against a second writer ({error.strerror}); choose a file system with locks"
        ) from error


class Journal:
    """An append-only file of JSON objects. Use it in a `with`, or close it."""

    def __init__(self, path: str | os.PathLike):
        """Opens or creates it, with its directory. Raises JournalError."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            lock(self._file, self.path)
            self._drop_torn_line()
        except BaseException:
            self._file.close()
            raise
        self._end = os.fstat(self._file.fileno()).st_size

    def _drop_torn_line(self) -> None:
        """What follows the last line break: completed if it is an object, which lacks only the break, else cut off."""
        size = os.fstat(self._file.fileno()).st_size
        start, tail = size, b""
        while start and b"\n" not in tail:
            start = max(start - _BLOCK, 0)
            tail = os.pread(self._file.fileno(), size - start, start)
        torn = tail.rpartition(b"\n")[2]
        if not torn:
            return
        if _parsed(torn) is None:
            self._file.truncate(size - len(torn))
        else:
            self._file.write(b"\n")

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """(place, object) of every line in order; `at` reads a place again. The log counts lines that are no object."""
        yield from lines(self.path)

    def append(self, entry: Mapping) -> int:
        """Writes a line and returns its place; `sync` brings it to the disk. Raises JournalError."""
        line = json.dumps(entry, ensure_ascii=True).encode() + b"\n"
        start = self._end
        try:
            written = self._file.write(line)
            while written < len(line):  # a disk that is nearly full takes a part
                written += self._file.write(line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)  # else the next line would be glued to a part of this one
            raise self._unwritable(error) from error
        self._end += len(line)
        return _place(start, len(line))

    def at(self, place: int) -> dict:
        """The object at a place."""
        return json.loads(os.pread(self._file.fileno(), place & 0xFFFFFFFF, place >> 32))

    def sync(self) -> None:
        """Waits until every line is on the disk, power cuts included. Raises JournalError."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> JournalError:
        return JournalError(
            f"{self.path} cannot be written: {error.strerror}; what is in it is kept, the same command continues"
        )

    def clear(self) -> None:
        """Removes every line."""
        self._file.truncate(0)
        self._end = 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class SharedSync:
    """Brings lines to the disk for tasks that write side by side: one fsync serves all who wrote before it began."""

    def __init__(self, journal: Journal):
        self._journal, self._lock = journal, asyncio.Lock()
        self._written = self._synced = 0

    async def of_line(self) -> None:
        """Returns when the line that was just appended is on the disk. Raises JournalError."""
        self._written += 1
        number = self._written
        async with self._lock:
            if self._synced < number:
                written = self._written
                await asyncio.to_thread(self._journal.sync)
                self._synced = written


class Results:
    """A journal of results by key. Use it in a `with`, or close it; memory holds keys, never results."""

    def __init__(self, path: str | os.PathLike):
        """Opens or creates it. Raises JournalError."""
        self._journal = Journal(path)
        self._places = {
            line["key"]: place
            for place, line in self._journal
            if "value" in line and isinstance(line.get("key"), str)
        }

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> dict | None:
        """The last result added under a key."""
        place = self._places.get(key)
        return None if place is None else self._journal.at(place)["value"]

    def add(self, key: str, value: dict) -> None:
        """Writes a result; `sync` brings it to the disk. Raises JournalError."""
        self._places[key] = self._journal.append({"key": key, "value": value})

    def sync(self) -> None:
        """Waits until every result is on the disk. Raises JournalError."""
        self._journal.sync()

    def close(self) -> None:
        self._journal.close()

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def lines(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """(place, object) of every line of a journal that another process may be writing; as `Journal` gives them."""
    unreadable, start = 0, 0
    with open(path, "rb") as file:
        for line in file:
            entry = _parsed(line)
            if entry is None:
                unreadable += 1
            else:
                yield _place(start, len(line)), entry
            start += len(line)
    if unreadable:
        _log.warning("%s: %d lines cannot be read and count for nothing", path, unreadable)


def at(path: str | os.PathLike, place: int) -> dict:
    """The object at a place that `lines` gave."""
    with open(path, "rb") as file:
        return json.loads(os.pread(file.fileno(), place & 0xFFFFFFFF, place >> 32))


def _parsed(line: bytes) -> dict | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _place(start: int, length: int) -> int:
    return start << 32 | length  # one number takes half of a pair's memory
