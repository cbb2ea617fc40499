"""Replies that were paid for, kept so that none is paid twice.

A reply is on the disk, synced, before anything is made of it. Faulty and empty ones are never kept. Each shard writes a
file of its own and reads those of all others, so that any number of them may have made the replies.
"""

import asyncio
import functools
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax import digests, journal
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.journal import Journal, SharedSync

_FORM = 1
"""Of the keys."""


class ReplyCache:
    """Replies by key. Use it in a `with`, in one event loop; memory holds keys and places, never replies."""

    def __init__(self, folder: Path, name: str, part: str = ""):
        """Opens or creates `<folder>/<name><part>.jsonl`, and reads the files of other parts.

        Raises JournalError: another process writes this part.
        """
        self.folder = Path(folder)
        self._own = Journal(self.folder / f"{name}{part}.jsonl")
        self._places: dict[str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob(f"{name}*.jsonl")):
            for place, line in journal.lines(path):
                if isinstance(line.get("key"), str) and isinstance(line.get("reply"), dict):
                    self._places[line["key"]] = path, place
        self._under_way: dict[str, asyncio.Future[Reply]] = {}
        self._sync = SharedSync(self._own)

    def __len__(self) -> int:
        return len(self._places)

    @staticmethod
    def key(asked: Asked, clip: str, identity: Mapping[str, Any], *further: str) -> str:
        """Changes with all that a reply depends on.

        Args:
            asked: the question; of its clip not the name counts, but `clip`.
            clip: the digest of the clip's content, "" without one.
            identity: the system's.
            further: such as the benchmark, its version and the item.
        """
        begun = [asked.begun] if asked.begun else []
        parts = (_FORM, asked.text, clip, asked.wants, asked.max_tokens, identity, *further, *begun)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    async def reply(self, key: str, make: Callable[[], Awaitable[Reply]]) -> Reply:
        """The kept reply, or a new one; who asks for one that is being made waits for it.

        Raises JournalError: it cannot be written; what `make` raises.
        """
        if (kept := self.get(key)) is not None:
            return kept
        if (making := self._under_way.get(key)) is not None:
            return await asyncio.shield(making)
        making = self._under_way[key] = asyncio.ensure_future(self._made(key, make))
        try:
            return await making
        finally:
            del self._under_way[key]

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key; None too if its sound has gone."""
        found = self._places.get(key)
        if found is None:
            return None
        reply = journal.at(*found)["reply"]
        sound = self.folder / reply["audio"] if reply.get("audio") else None
        if sound is not None and not (sound.is_file() and sound.stat().st_size):
            return None
        return Reply(reply.get("text", ""), sound, detail=reply.get("detail", ""))

    async def _made(self, key: str, make: Callable[[], Awaitable[Reply]]) -> Reply:
        reply = await make()
        if reply.fault or not (reply.text.strip() or reply.audio):
            return reply
        sound = os.path.relpath(reply.audio, self.folder) if reply.audio else None
        line = {"key": key, "reply": {"text": reply.text, "audio": sound, "detail": reply.detail}}
        self._places[key] = self._own.path, self._own.append(line)
        await self._sync.of_line()
        return reply

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(self, *_) -> None:
        self._own.close()


async def clip_content(clip: Path | None) -> str:
    """The digest of a clip's content; "" without a clip, or where it cannot be read, which asking will tell."""
    return "" if clip is None else await asyncio.to_thread(content_of, clip)


def content_of(path: Path) -> str:
    """The digest of a file's content; "" where it cannot be read."""
    try:
        status = os.stat(path)
        return _content(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return ""


@functools.lru_cache(maxsize=4096)
def _content(path: Path, size: int, changed: int) -> str:
    """Several questions are asked about one clip, which is read once."""
    return digests.of_file(path)
