"""Answers that were paid for, kept so that none is paid twice.

Every answer is on the disk, synced, before anything is made of it. Memory holds an index (about 170 bytes an answer),
never answers.
"""

import os

from bagpiper_jax.journal import Journal, SharedSync


class Answers:
    """Answers by key, and a line for every attempt that gave none. Use it in a `with`, or close it.

    Attributes:
        requests, tokens: what all attempts ever journaled come to.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens or creates the journal. Raises JournalError: another process is writing it."""
        self._journal = Journal(path)
        self._index, self.requests, self.tokens = {}, 0, 0
        for place, line in self._journal:
            try:
                self._count(bytes.fromhex(line["key"]), place, "answer" in line, int(line["tokens"]))
            except (ValueError, KeyError, TypeError, OverflowError):
                continue  # no line of ours
        self._sync = SharedSync(self._journal)

    def _count(self, key: bytes, place: int, answered: bool, tokens: int) -> None:
        self.requests += 1
        self.tokens += tokens
        if answered:
            self._index[key] = place

    def __len__(self) -> int:
        return len(self._index)

    def get(self, key: str) -> dict | None:
        """The answer journaled under a key."""
        place = self._index.get(bytes.fromhex(key))
        return None if place is None else self._journal.at(place)["answer"]

    async def add(self, key: str, tokens: int, **entry) -> None:
        """Journals an attempt and returns when it is on the disk; `answer=` makes it one that `get` finds.

        Raises JournalError: it cannot be written.
        """
        place = self._journal.append({"key": key, "tokens": tokens, **entry})
        self._count(bytes.fromhex(key), place, "answer" in entry, tokens)
        await self._sync.of_line()

    def close(self) -> None:
        self._journal.close()

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_) -> None:
        self.close()
