"""The cache of an engine: who holds which pages, what all guided dialogues share, and who makes room for whom.

The unconditional branch of guidance is the same for every dialogue up to the slot where its audio begins: zero tokens
(docs/reference.md, Guidance). So its pages are computed once and read by all; a branch has pages of its own only from
there on, the first of them a copy of the shared page that its beginning lies in.

A dialogue that needs a page when none is free sends younger ones back into the queue. Their pages wait in the host's
memory and come back as they were, so nothing is computed twice, and the oldest dialogue always goes on.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jax.sharding import Mesh

from bagpiper_jax.generation import step
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.pool import PagePool, pages_for, pages_of
from bagpiper_jax.generation.prefixes import Prefixes
from bagpiper_jax.generation.programs import Programs
from bagpiper_jax.generation.requests import Request
from bagpiper_jax.models.attention.paged import empty_pages
from bagpiper_jax.models.configs import DecoderConfig

SetAside = Callable[[Request], None]


class Memory:
    """The pool on the device and its tables on the host.

    Attributes:
        pages: the pool, see `models.attention.paged`.
        prefixes: pages of equal beginnings of prompts.
        page: slots of a page.
        width: pages of the longest dialogue.
        shared_slots: slots of zero tokens that the shared branch holds.
    """

    def __init__(
        self, programs: Programs, decoder: DecoderConfig, config: EngineConfig, mesh: Mesh | None = None
    ):
        self._programs, self._config = programs, config
        pages = pages_for(config, decoder, mesh)
        self.pages = empty_pages(decoder, pages, config.page, mesh)
        self.pool = PagePool(pages)
        self.prefixes = Prefixes(self.pool)
        self.page = config.page
        self.width = pages_of(config.context + config.steps, config.page)
        self.shared_slots = 0
        self._shared: list[int] = []

    def admit(self, request: Request, active: Sequence[Request]) -> bool:
        """Gives a waiting dialogue the pages that it starts with, or had before; False if they are not free."""
        kept, branch = request.aside or ([], [])
        count = len(kept) or pages_of(len(request.tokens) + self._config.steps, self.page)
        # A page for each that is running, so that who comes does not at once have to make room again.
        needed = count + len(branch) + len(active)
        self.prefixes.forget(needed)
        if needed > self.pool.free and not (not active and self._shorten_shared(request, active)):
            return False
        pages = self.pool.take(count + len(branch))
        if pages is None:
            return False
        for page, content in zip(pages, [*kept, *branch], strict=False):
            self.pages = self._programs.put(self.pages, np.int32(page), content)
        request.pages, request.branch = pages[:count], pages[count:]
        request.aside = None
        return True

    def set_aside(self, request: Request) -> None:
        """Takes all pages of a dialogue and keeps what they hold."""
        request.aside = self._contents(request.pages), self._contents(request.branch)
        self.pool.give(request.pages)
        self.pool.give(request.branch)

    def adopt(self, request: Request) -> None:
        """Gives a dialogue the kept pages that hold what it would be fed next, instead of its own."""
        page = self.page
        while request.fed % page == 0 and request.fed // page < len(request.digests):
            place = request.fed // page
            known = self.prefixes.find(request.digests[place])
            if known is None:
                return
            self.pool.give([request.pages[place]])
            request.pages[place] = known
            request.fed += page

    def keep(self, request: Request, before: int) -> None:
        """Keeps the whole pages of a prompt that were fed since it had `before` slots, for others that begin so."""
        page = self.page
        for place in range(before // page, min(request.fed // page, len(request.digests))):
            self.prefixes.keep(request.digests[place], request.pages[place])

    @property
    def kept(self) -> int:
        """Pages that outlive the dialogues which needed them."""
        return len(self._shared) + len(self.prefixes)

    def _contents(self, pages: Sequence[int]) -> list[np.ndarray]:
        return [np.asarray(self._programs.take(self.pages, np.int32(page))) for page in pages]

    def release(self, request: Request) -> None:
        """Takes all pages of a dialogue that has ended."""
        self.pool.give(request.pages)
        self.drop_branch(request)
        request.aside = None

    def drop_branch(self, request: Request) -> None:
        """Ends the unconditional branch of a segment that has ended."""
        self.pool.give(request.branch)
        request.shared = request.shared_needed = 0

    def grow(self, request: Request, active: Sequence[Request], set_aside: SetAside) -> bool:
        """Sees to it that the next steps of a dialogue have pages; False if older ones hold all."""
        needed = pages_of(request.position + self._config.steps, self.page)
        pages = self._room(request, needed - len(request.pages), active, set_aside)
        if pages is None:
            return False
        request.pages += pages
        if not request.is_guided:
            return True
        branch = self._room(request, needed - request.shared - len(request.branch), active, set_aside)
        request.branch += branch or []
        return branch is not None

    def branch_off(self, request: Request, active: Sequence[Request], set_aside: SetAside) -> bool:
        """Begins the unconditional branch of a segment, once as many zero tokens are there as the dialogue is long."""
        begins = request.position - request.behind
        if self.shared_slots < begins:
            return False
        branch = self._room(request, 1, active, set_aside)
        if branch is None:
            return False
        whole, rest = divmod(begins, self.page)
        request.branch, request.shared = branch, whole
        request.shared_needed = whole * self.page
        request.phase -= step.UNGUIDED_TEXT - step.TEXT
        if rest:
            self._copy(branch[0], self._shared[whole])
        return True

    def _copy(self, to: int, source: int) -> None:
        self.pages = self._programs.copy(self.pages, np.int32(to), np.int32(source))

    def grow_shared(
        self, request: Request, active: Sequence[Request], set_aside: SetAside
    ) -> tuple[int, np.ndarray] | None:
        """Room for another chunk of zero tokens in the shared branch: its first slot and table [1, W], or None."""
        start = self.shared_slots
        # What a chunk writes beyond the slots that are wanted goes to the page of waste.
        end = min(start + self._config.chunk, pages_of(request.shared_needed, self.page) * self.page)
        pages = self._room(request, pages_of(end, self.page) - len(self._shared), active, set_aside)
        if pages is None:
            return None
        self._shared += pages
        self.shared_slots = end
        return start, self._table([self._shared])

    def _room(
        self, request: Request, count: int, active: Sequence[Request], set_aside: SetAside
    ) -> list[int] | None:
        """Pages for a dialogue, if need be those of younger ones; None if only older ones could give any."""
        if count <= 0:
            return []
        self.prefixes.forget(count)
        while self.pool.free < count:
            younger = [other for other in active if other.number > request.number and other.pages]
            if younger:
                set_aside(max(younger, key=lambda other: other.number))
                self.prefixes.forget(count)
            elif not self._shorten_shared(request, active):
                return None
        return self.pool.take(count)

    def _shorten_shared(self, request: Request, active: Sequence[Request]) -> bool:
        """Gives up shared pages beyond those that any dialogue reads or is about to."""
        page = self.page
        kept = max(pages_of(other.shared_needed, page) for other in [request, *active])
        beyond = self._shared[kept:]
        if not beyond:
            return False
        self._shared, self.shared_slots = self._shared[:kept], min(self.shared_slots, kept * page)
        self.pool.give(beyond)
        return True

    def tables(self, requests: Sequence[Request], rows: int, branches: int) -> np.ndarray:
        """Pages of the rows, then those of the unconditional branches of the first rows: int32 [R + N, W]."""
        own = [request.pages for request in requests]
        own += [[]] * (rows - len(own))
        guided = [self._branch(request) for request in requests if request.is_guided]
        return self._table(own + guided + [[]] * (branches - len(guided)))

    def branch_table(self, request: Request) -> np.ndarray:
        """Pages of its unconditional branch: int32 [1, W]."""
        return self._table([self._branch(request)])

    def _branch(self, request: Request) -> list[int]:
        return self._shared[: request.shared] + request.branch

    def _table(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        table = np.zeros((len(rows), self.width), np.int32)
        for row, pages in enumerate(rows):
            table[row, : len(pages)] = pages
        return table

    def warm_up(self) -> None:
        """Compiles the moves of pages, on the page of waste."""
        self._copy(0, 0)
        content = np.asarray(self._programs.take(self.pages, np.int32(0)))
        self.pages = self._programs.put(self.pages, np.int32(0), content)
