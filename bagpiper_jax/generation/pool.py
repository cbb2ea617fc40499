"""Which pages of the pool are free, and how many a budget of memory holds."""

import math

import jax
from jax.sharding import Mesh, NamedSharding

from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.models.attention.paged import page_shape, page_spec
from bagpiper_jax.models.configs import DecoderConfig

_GIB = 2**30
_UNKNOWN = 1.0
"""GiB of a cache where nobody says how much there is."""
_SHARE = 0.5
"""Of the memory that a device has left; the rest is for what a step computes, and for a second engine."""

BRANCHES = 3
"""Of a guided dialogue: its own, the unconditional one, and what the unconditional ones of all share."""


class PagePool:
    """Who holds pages, by number. Page 0 is no one's: it takes what nobody wants to keep.

    Args:
        pages: pages of the pool, page 0 among them.
    """

    def __init__(self, pages: int):
        self.size = pages - 1
        self._free = list(range(pages - 1, 0, -1))
        self._holders: dict[int, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int] | None:
        """`count` pages, or None where there are fewer."""
        if count > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(count)]
        self._holders.update(dict.fromkeys(taken, 1))
        return taken

    def share(self, page: int) -> None:
        """Counts one more holder of a page. Raises KeyError: it is free."""
        self._holders[page] += 1

    def holders(self, page: int) -> int:
        return self._holders.get(page, 0)

    def give(self, pages: list[int]) -> None:
        """Takes pages back from one of their holders, and empties the list. Raises KeyError: one was free already."""
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                del self._holders[page]
                self._free.append(page)
        pages.clear()


def pages_of(slots: int, page: int) -> int:
    """Pages that hold so many slots."""
    return -(-slots // page)


def page_bytes(config: DecoderConfig, page: int, mesh: Mesh | None = None) -> int:
    """Bytes that a device holds of one page of all layers."""
    shape = page_shape(config, page)
    if mesh is not None:
        shape = NamedSharding(mesh, page_spec(mesh, config.kv_heads)).shard_shape(shape)
    return math.prod(shape) * jax.numpy.dtype(config.dtype).itemsize


def pages_for(config: EngineConfig, decoder: DecoderConfig, mesh: Mesh | None = None) -> int:
    """Pages of an engine's pool, page 0 among them: what its memory holds, and not more than it can use."""
    longest = pages_of(config.context + config.steps, config.page)
    memory = config.memory or memory_left()
    held = int((memory or _UNKNOWN) * _GIB) // page_bytes(decoder, config.page, mesh)
    if memory is None:
        held = max(held, BRANCHES * longest)
    return min(held, (2 * config.rows + 1) * longest) + 1


def memory_left() -> float | None:
    """GiB of the first device that a cache takes unasked, or None where the device does not say what it has."""
    known = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in known:
        return None
    return _SHARE * (known["bytes_limit"] - known.get("bytes_in_use", 0)) / _GIB
