"""Work on many items at once: pools of processes that end with the one that started them, and tasks in order."""

import asyncio
import collections
import multiprocessing
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def worker_pool(workers: int, prepare: Callable[..., None] | None = None, *arguments) -> ProcessPoolExecutor:
    """A pool of so many processes, each of which runs `prepare(*arguments)` first.

    They are spawned, not forked: the parent may hold threads (TensorFlow, JAX) that do not survive a fork. Should the
    parent be killed, they end at once; else they would go on writing beside the next run's.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _start, (prepare, arguments))


def _start(prepare: Callable[..., None] | None, arguments: tuple) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # a pipe whose other end closes with the parent, whatever ends it
    os._exit(1)


async def in_order(
    work: Callable[[_Item], Awaitable[_Result]], items: Iterable[_Item], window: int
) -> AsyncGenerator[tuple[_Item, _Result], None]:
    """Yields (item, what came of it) in the order of the items, which are taken as others are done.

    Use it in `contextlib.aclosing`: what is under way when it is left is cancelled.

    Args:
        work: what is done with each.
        window: how many are begun and not yielded yet.
    """
    begun: collections.deque[tuple[_Item, asyncio.Future[_Result]]] = collections.deque()
    try:
        for item in items:
            begun.append((item, asyncio.ensure_future(work(item))))
            if len(begun) >= window:
                first, task = begun.popleft()
                yield first, await task
        while begun:
            first, task = begun.popleft()
            yield first, await task
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)
