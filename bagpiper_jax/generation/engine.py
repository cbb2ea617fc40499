"""Continuous batching: many dialogues at once, each at its own phase; rows are refilled as dialogues end.

`EngineCore` decides what the device does next and holds no thread. Its two moves are `feed`, one chunk of prompts, and
`decode`, a few steps of all rows that run. Who calls them decides how they alternate: `batch.answer` or
`service.Engine`.
"""

import itertools
from collections import deque
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from bagpiper_jax import parallel
from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.generation import hearing, step
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.feeding import Feeder
from bagpiper_jax.generation.memory import Memory
from bagpiper_jax.generation.pool import BRANCHES, pages_of
from bagpiper_jax.generation.prefixes import digests
from bagpiper_jax.generation.programs import programs
from bagpiper_jax.generation.requests import EngineError, Request
from bagpiper_jax.generation.rows import as_orders, as_rows, fitting
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper


class EngineCore:
    """The state of many dialogues on a device. Not safe to share between threads.

    Attributes:
        waiting, active: dialogues without and with a row, the oldest first.
    """

    def __init__(self, model: Bagpiper, config: EngineConfig = EngineConfig()):
        graph, state = nnx.split(model)
        self._parameters, tree = jax.tree.flatten(state)
        self.model_config, self.config = model.config, config
        mesh = parallel.mesh_of(self._parameters)
        self._programs = programs(graph, tree, model.config.decoder.layers, mesh)
        self._heads = self._programs.heads(self._parameters)
        self.memory = Memory(self._programs, model.config.decoder, config, mesh)
        self._feeder = Feeder(self._programs, self._parameters, model.config, self.memory, config.chunk)
        self.waiting: deque[Request] = deque()
        self.active: list[Request] = []
        self._sizes: set[tuple[int, int]] = set()
        self._numbers = itertools.count()
        self._streams = model.config.vocabulary.num_streams

    def add(
        self, prompt: Rendered, config: LoopConfig, seed: int | None = None, begun: Sequence[int] = ()
    ) -> Request:
        """Puts a dialogue at the end of the queue. Raises EngineError: as `request`."""
        request = self.request(prompt, config, seed, begun)
        self.enqueue(request)
        return request

    def request(
        self, prompt: Rendered, config: LoopConfig, seed: int | None = None, begun: Sequence[int] = ()
    ) -> Request:
        """Prepares a dialogue; safe in any thread.

        Args:
            prompt, config: as `batch.generate`.
            seed: instead of `config.seed`.
            begun: tokenizer ids that the first segment begins with, see `Request.begin`.

        Raises:
            EngineError: the dialogue could not be answered however long it waited, or cannot be begun so.
        """
        request = Request(prompt, config, config.seed if seed is None else seed)
        self._check(request)
        if len(begun):
            request.begin(self.model_config.vocabulary.text_to_ids(np.asarray(begun, np.int32)))
        request.digests = digests(request.tokens, prompt.audio, self.config.page)
        tower = self.model_config.tower
        for span in prompt.audio:
            request.windows += hearing.single(hearing.windows_of(span.samples, tower))
        return request

    def enqueue(self, request: Request) -> None:
        """Puts a prepared dialogue at the end of the queue."""
        if request.ended:  # it was cancelled before, or its beginning is all of it
            return
        request.number = next(self._numbers)
        self.waiting.append(request)

    def _check(self, request: Request) -> None:
        if request.longest > self.config.context:
            raise EngineError(
                f"a prompt of {len(request.prompt)} slots and replies of up to {request.config.cache_slots} do not fit "
                f"the {self.config.context} slots of a dialogue: shorten max_steps or the prompt, or raise context"
            )
        branches = BRANCHES if request.guides else 1
        needed = branches * pages_of(request.longest + self.config.steps, self.config.page)
        if needed > self.memory.pool.size:
            raise EngineError(
                f"a dialogue of up to {request.longest} slots needs {needed} pages of {self.config.page} slots, and "
                f"the cache has {self.memory.pool.size}: give it more memory, or shorten max_steps"
            )

    def cancel(self, request: Request) -> None:
        """Ends a dialogue at once; its row and pages are free."""
        if request.ended:
            return
        request.end()
        self._leave(request)

    def _leave(self, request: Request) -> None:
        self.memory.release(request)
        for group in (self.active, self.waiting):
            if request in group:
                group.remove(request)

    def feed(self) -> bool:
        """Admits who finds a row and pages, then does one chunk of what dialogues need before they can run on.

        Returns:
            whether there was anything to do.
        """
        self._admit()
        return (
            self._feeder.hear(self.active)
            or self._feeder.prefill(self.active)
            or self._prepare_guidance()
            or self._catch_up()
        )

    def _admit(self) -> None:
        while self.waiting and len(self.active) < self.config.rows:
            if not self.memory.admit(self.waiting[0], self.active):
                return
            self.active.append(self.waiting.popleft())

    def _prepare_guidance(self) -> bool:
        """Feeds one more chunk of zero tokens to the branch that all guided dialogues share, if one waits for it."""
        for request in sorted(self.active, key=_age):
            if self.memory.shared_slots >= request.shared_needed:
                continue
            room = self.memory.grow_shared(request, self.active, self._set_aside)
            if room is not None:
                self._feeder.feed_zeros(*room)
                return True
        return False

    def _catch_up(self) -> bool:
        """Feeds the beginning of a reply to its unconditional branch, if one lacks it and has pages for it."""
        room = self.active, self._set_aside
        for request in sorted(self.active, key=_age):
            if not request.behind or not request.is_fed or request not in self.active:
                continue
            if request.waits_for_branch and not self.memory.branch_off(request, *room):
                continue
            if self.memory.shared_slots >= request.shared_needed and self.memory.grow(request, *room):
                self._feeder.catch_up(request, self.memory.branch_table(request))
                return True
        return False

    def _set_aside(self, request: Request) -> None:
        """A younger dialogue makes room: it waits, as the first, for pages to go on with what it had."""
        self.memory.set_aside(request)
        self.active.remove(request)
        self.waiting.appendleft(request)

    def decode(self) -> list[Request]:
        """Runs a few steps of every dialogue that can.

        Returns:
            the dialogues that took part, ended ones among them.
        """
        running = self._ready()
        if not running:
            return []
        guided = sum(request.is_guided for request in running)
        size = self._size(len(running), guided)
        tables = self.memory.tables(running, *size)
        # While others wait for a row, a call ends when an eighth of the rows have nothing to do.
        enough = len(running) - max(1, len(running) // 8) if self.waiting else 0
        state, drawn, kinds = self._advance(
            as_rows(running, size[0], self._streams),
            as_orders(running, size[0], tables),
            self.config.steps,
            enough,
        )
        for row, request in enumerate(running):
            request.token, request.position = state.token[row], int(state.position[row])
            request.phase, request.step = int(state.phase[row]), int(state.step[row])
            steps = np.flatnonzero(kinds[:, row])
            request.take(drawn[steps, row], int(kinds[steps[0], row]) if len(steps) else 0)
            if request.ended:
                self._leave(request)
            elif request.phase == step.CLOSE:
                self.memory.drop_branch(request)
        return running

    def _advance(self, rows: step.Rows, orders: step.Orders, steps: int, enough: int):
        self.memory.pages, *found = self._programs.advance(
            self._parameters, self._heads, self.memory.pages, rows, orders, np.int32(steps), np.int32(enough),
            most=self.config.steps,
        )  # fmt: skip
        return jax.device_get(found)

    def _ready(self) -> list[Request]:
        """Dialogues that can take steps, with pages for them, the guided ones first."""
        ready = []
        for request in sorted(self.active, key=_age):
            if request not in self.active or not request.is_fed or request.behind:
                continue  # it had to make room for an older one, or lacks something yet
            room = self.active, self._set_aside
            if request.waits_for_branch and not self.memory.branch_off(request, *room):
                continue
            if self.memory.shared_slots >= request.shared_needed and self.memory.grow(request, *room):
                ready.append(request)
        return sorted(ready, key=lambda request: not request.is_guided)

    def _size(self, rows: int, guided: int) -> tuple[int, int]:
        """Rows and unconditional branches of the program: the smallest compiled one that fits, else a new one."""
        expected = min(self.config.rows, max(rows, len(self.active) + len(self.waiting)))
        size = fitting(rows, guided, self._sizes) or self._bucket(expected, guided)
        self._sizes.add(size)
        return size

    def _bucket(self, rows: int, guided: int) -> tuple[int, int]:
        size = min(size for size in self.row_sizes if size >= rows)
        return size, size if guided else 0

    @property
    def row_sizes(self) -> list[int]:
        """Numbers of rows for which programs are compiled: a fourth of each other, down from all."""
        sizes = [self.config.rows]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // 4))
        return sizes

    def warm_up(self) -> None:
        """Compiles everything that any dialogue may need, so that none waits for the compiler later."""
        self._feeder.warm_up()
        for rows in self.row_sizes:
            for branches in (0, rows):
                tables = np.zeros((rows + branches, self.memory.width), np.int32)
                self._advance(
                    as_rows([], rows, self._streams), as_orders([], rows, tables), self.config.steps, 0
                )
                self._sizes.add((rows, branches))
        self.memory.warm_up()

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.waiting


def _age(request: Request) -> int:
    return request.number
