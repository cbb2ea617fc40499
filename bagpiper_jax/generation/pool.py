"""Which pages of the pool are free, and how many a budget of memory holds."""

import math

import jax

from bagpiper_jax.models.attention.paged import page_shape
from bagpiper_jax.models.configs import DecoderConfig

_GIB = 2**30
_SHARE = 0.9
"""Of the memory that a device has left; the rest is for what a step computes."""


class PagePool:
    """Numbers of free pages. Page 0 is no one's: it takes what nobody wants to keep.

    Args:
        pages: pages of the pool, page 0 among them.
    """

    def __init__(self, pages: int):
        self.size = pages - 1
        self._free = list(range(pages - 1, 0, -1))
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int] | None:
        """`count` pages, or None where there are fewer."""
        if count > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(count)]
        self._taken.update(taken)
        return taken

    def give(self, pages: list[int]) -> None:
        """Takes pages back, and empties the list. Raises KeyError: one was free already."""
        for page in pages:
            self._taken.remove(page)
        self._free += pages
        pages.clear()


def pages_of(slots: int, page: int) -> int:
    """Pages that hold so many slots."""
    return -(-slots // page)


def page_bytes(config: DecoderConfig, page: int) -> int:
    """Bytes of one page of all layers."""
    return math.prod(page_shape(config, page)) * jax.numpy.dtype(config.dtype).itemsize


def memory_left() -> float | None:
    """GiB that the first device has left for a cache, or None where it does not say."""
    known = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in known:
        return None
    return _SHARE * (known["bytes_limit"] - known.get("bytes_in_use", 0)) / _GIB
