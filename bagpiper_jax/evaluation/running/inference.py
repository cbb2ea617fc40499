"""Items → replies: many at once, each kept as it comes."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

from bagpiper_jax.corpora.assembly import safe_id
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Item, Reply
from bagpiper_jax.evaluation.running.cache import ReplyCache, clip_content
from bagpiper_jax.evaluation.systems.protocol import System
from bagpiper_jax.runs.progress import Underway
from bagpiper_jax.workers import in_order

_BEGUN = 16
"""Items begun for each that the system answers at once: a long answer holds up no other, though all come in order."""


async def replies(
    system: System, benchmark: Benchmark, items: Sequence[Item], folder: Path, part: str = ""
) -> list[Reply]:
    """The reply to every item, in order; what was answered before is not asked again.

    Args:
        system: what is asked.
        benchmark: whose items they are.
        items: what is asked, limited and sharded.
        folder: where replies and their sounds are kept.
        part: ends the name of this shard's file.

    Raises:
        JournalError: another process asks the same shard, or the disk takes no more.
        Explained, or what the device raised: no question can be answered any more; replies so far are kept.
    """
    found: list[Reply] = []
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(ReplyCache(folder, "replies", part)) if system.costs else None
        answer = functools.partial(_reply, system, benchmark, cache, folder)
        progress = stack.enter_context(Underway(f"{benchmark.name}: asking", len(items)))
        async with contextlib.aclosing(in_order(answer, items, _BEGUN * system.width)) as answered:
            async for _, reply in answered:
                found.append(reply)
                progress.add()
    return found


async def _reply(
    system: System, benchmark: Benchmark, cache: ReplyCache | None, folder: Path, item: Item
) -> Reply:
    sound = folder / "audio" / f"{safe_id(item.id)}.wav"
    if cache is None:
        return await system.answer(item.id, item.asked, sound)
    clip = await clip_content(item.asked.clip)
    key = cache.key(item.asked, clip, system.identity, benchmark.name, benchmark.version, item.id)
    return await cache.reply(key, lambda: system.answer(item.id, item.asked, sound))
