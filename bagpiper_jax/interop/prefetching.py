"""Work on the next parts while the last ones are written."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_HELD = 2
"""The item that the caller uses, and the next. A second reader would hold one more layer, raw and converted."""
LIMIT_BYTES = 1 << 28


def prefetched(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    size: Callable[[_Item], int],
    limit: int = LIMIT_BYTES,
) -> Iterator[_Result]:
    """function(item) of each item, in order. The next is made while the caller uses the one before.

    Args:
        function: reads, transposes, converts, sums up: all of it without Python's lock.
        size: bytes of an item's result; together they stay below `limit`, unless one alone is larger.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting, held = collections.deque(), 0
        for item in items:
            while waiting and (held + size(item) > limit or len(waiting) >= _HELD):
                yield waiting[0][0].result()
                held -= waiting.popleft()[1]
            waiting.append((pool.submit(function, item), size(item)))
            held += size(item)
        while waiting:
            yield waiting[0][0].result()
            waiting.popleft()
