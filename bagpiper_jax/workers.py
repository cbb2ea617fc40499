"""Pools of worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor


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
