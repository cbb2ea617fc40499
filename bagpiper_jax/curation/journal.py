"""What was paid for, once: an append-only JSONL that a killed job reads back.

Every answer is on the disk, synced, before anything is made of it. A line torn by a kill is ignored. Memory holds an
index (about 170 bytes an answer), never answers.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError


class Journal:
    """Answers by key, and a line for every attempt that gave none.

    Attributes:
        requests, tokens: what all attempts ever journaled come to.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens or creates it. Raises CorpusError: another process is writing it."""
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise CorpusError(f"{path} is in use by another process; both would pay for the same") from error
        self._index, self.requests, self.tokens = {}, 0, 0
        self._read()
        self._lock = asyncio.Lock()
        self._synced = self._end

    def _read(self) -> None:
        for start, line in _lines(self._path):
            try:
                entry = json.loads(line)
                key, answered, tokens = bytes.fromhex(entry["key"]), "answer" in entry, int(entry["tokens"])
            except (ValueError, KeyError, TypeError):
                continue
            self._count(key, start, len(line), answered, tokens)
        self._end = self._path.stat().st_size
        if self._end and not _ends_with_newline(self._path):
            self._end += self._file.write(b"\n")  # a torn line must not swallow the next

    def _count(self, key: bytes, start: int, length: int, answered: bool, tokens: int) -> None:
        self.requests += 1
        self.tokens += tokens
        if answered:
            self._index[key] = start << 32 | length  # one number takes half of a pair's memory

    def __len__(self) -> int:
        return len(self._index)

    def get(self, key: str) -> dict | None:
        """The answer journaled under a key."""
        place = self._index.get(bytes.fromhex(key))
        if place is None:
            return None
        return json.loads(os.pread(self._file.fileno(), place & 0xFFFFFFFF, place >> 32))["answer"]

    async def add(self, key: str, tokens: int, **entry) -> None:
        """Appends a line and returns when it is on the disk."""
        self.write(key, tokens, **entry)
        await self._sync(self._end)

    def write(self, key: str, tokens: int = 0, **entry) -> None:
        """Appends a line, for `sync` to bring to the disk; `answer=` makes it one that `get` finds."""
        line = json.dumps({"key": key, "tokens": tokens, **entry}, ensure_ascii=True).encode() + b"\n"
        start = self._end
        self._file.write(line)
        self._file.flush()
        self._end += len(line)
        self._count(bytes.fromhex(key), start, len(line), "answer" in entry, tokens)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    async def _sync(self, end: int) -> None:
        """One fsync serves all who wrote before it began."""
        async with self._lock:
            if self._synced < end:
                written = self._end
                await asyncio.to_thread(os.fsync, self._file.fileno())
                self._synced = written

    def close(self) -> None:
        self._file.close()


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as file:
        start = 0
        for line in file:
            yield start, line
            start += len(line)


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
