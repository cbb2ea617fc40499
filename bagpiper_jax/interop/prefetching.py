"""Work on the next part while the last one is written."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_LIMIT_BYTES = 1 << 28


def prefetched(
    function: Callable[[_Item], _Result], items: Iterable[_Item], size: Callable[[_Item], int]
) -> Iterator[_Result]:
    """function(item) of each item, in order. The next is made while the caller uses the one before.

    One thread makes them: a second one would hold one more layer, raw and converted. Two results that together are
    above 256 MiB, such as layers of a large model or whole stacks of them, are made one after the other.

    Args:
        function: reads, transposes, converts, sums up: all of it without Python's lock.
        size: bytes of an item's result.
    """
    with ThreadPoolExecutor(1) as pool:
        before: Future[_Result] | None = None
        held = 0
        for item in items:
            if before is not None and held + size(item) > _LIMIT_BYTES:
                yield before.result()
                before = None
            made, held = pool.submit(function, item), size(item)
            if before is not None:
                yield before.result()
            before = made
        if before is not None:
            yield before.result()
