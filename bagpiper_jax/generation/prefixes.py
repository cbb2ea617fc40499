"""Equal beginnings of prompts are fed once: whole pages of them are kept, and read by all who begin so.

A page is known by a digest of everything before its end, tokens and sound, since its keys and values depend on all of
that and on nothing else. Nobody writes to a kept page: a dialogue writes only behind what it has been fed.
"""

import hashlib
from collections import OrderedDict

import numpy as np

from bagpiper_jax.dialogue import AudioSpan
from bagpiper_jax.generation.pool import PagePool


def digests(tokens: np.ndarray, audio: tuple[AudioSpan, ...], page: int) -> list[bytes]:
    """A digest for every whole page of token rows [T, S], of all that lies before the page's end."""
    found, running = [], hashlib.blake2b(digest_size=16)
    waiting = list(audio)
    for end in range(page, len(tokens) + 1, page):
        running.update(np.ascontiguousarray(tokens[end - page : end]).tobytes())
        while waiting and waiting[0].start < end:
            span = waiting.pop(0)
            running.update(np.int64([span.start, len(span.samples)]).tobytes())
            running.update(np.ascontiguousarray(span.samples).tobytes())
        found.append(running.digest())
    return found


class Prefixes:
    """Kept pages by their digests. Each counts as held once by this class, and once by each dialogue that reads it."""

    def __init__(self, pool: PagePool):
        self._pool = pool
        self._pages: OrderedDict[bytes, int] = OrderedDict()  # what was not used for longest comes first

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, digest: bytes) -> int | None:
        """The kept page, held once more for the one who asks, or None."""
        page = self._pages.get(digest)
        if page is not None:
            self._pages.move_to_end(digest)
            self._pool.share(page)
        return page

    def keep(self, digest: bytes, page: int) -> None:
        """Keeps a page that was fed whole."""
        if digest not in self._pages:
            self._pool.share(page)
            self._pages[digest] = page

    def forget(self, count: int) -> None:
        """Frees kept pages that no dialogue reads, until the pool has `count` or there are none."""
        if self._pool.free >= count:
            return
        for digest, page in [*self._pages.items()]:
            if self._pool.holders(page) == 1:
                del self._pages[digest]
                self._pool.give([page])
                if self._pool.free >= count:
                    return
