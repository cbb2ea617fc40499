"""A device that keeps books instead of keys and values: in every slot of the pool lies the token that was fed to it.

Whoever takes a step reads its whole row through its table, and finds what it was fed, or the test fails. What the model
says is drawn at random, terminators, poison and choices of modality among it.
"""

import random

import numpy as np

from bagpiper_jax import vocabulary as v
from bagpiper_jax.generation import hearing, step
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.programs import Programs
from bagpiper_jax.generation.requests import Request
from bagpiper_jax.generation.sampling import MARKERS

RUBBISH = -7


class Ledger:
    """The programs of an engine, in numpy.

    Args:
        rng: decides what the model says.
        page: slots of a page.
        poison: how often logits are no numbers.
    """

    def __init__(self, rng: random.Random, page: int, poison: float = 0.0):
        self.rng, self.page, self.poison = rng, page, poison
        self.core: EngineCore
        self.requests: dict[int, Request] = {}  # by their seeds
        self._fed: dict[int, list[int]] = {}

    def programs(self, graph, tree, layers, mesh=None) -> Programs:
        return Programs(
            heads=lambda parameters: None, hear=self._hear, prefill=self._prefill, advance=self._advance,
            copy=self._copy, take=lambda pages, page: pages[page].copy(), put=self._put,
        )  # fmt: skip

    def empty_pages(self, decoder, pages, page, mesh=None):
        return np.full((pages, page), RUBBISH)

    def _hear(self, parameters, mel, *_):
        tower = self.core.model_config.tower
        slots = len(hearing.empty_windows(1, tower).mel[0]) * hearing.CHUNK_TOKENS
        return np.zeros((len(mel), slots, self.core.model_config.decoder.width), np.float32)

    def _copy(self, pages, to, source):
        return self._put(pages, to, pages[source])

    def _put(self, pages, page, content):
        assert page and self.core.memory.pool.holders(page) == 1
        pages[page] = content
        return pages

    def _prefill(self, parameters, pages, tokens, features, heard, start, count, tables):
        for row, table in enumerate(tables):
            for offset in range(count[row]):
                self._write(pages, table, start[row] + offset, tokens[row, offset, 0])
        return pages

    def _write(self, pages, table, slot, token) -> None:
        place = slot // self.page
        page = table[place] if place < len(table) else 0
        if page:
            assert self.core.memory.pool.holders(page) == 1, "a page that others read is written"
            pages[page, slot % self.page] = token

    def _advance(self, parameters, heads, pages, rows, orders, steps, enough, most):
        state = step.Rows(rows.token.copy(), rows.position.copy(), rows.phase.copy(), rows.step.copy())
        count, streams = state.token.shape
        drawn, kinds = np.zeros((most, count, streams), np.int32), np.zeros((most, count), np.int32)
        for i in range(steps):
            if step.is_running(state.phase).sum() <= enough:
                break
            for row in range(count):
                self._step(pages, state, orders, row, drawn[i], kinds[i])
        return pages, state, drawn, kinds

    def _step(self, pages, rows, orders, row, drawn, kinds) -> None:
        tables = [orders.tables[row], *orders.tables[len(rows.token) + row :][:1]]
        running, slot = step.is_running(rows.phase[row]), rows.position[row]
        token = rows.token[row, 0] if running else RUBBISH
        for table in tables:
            self._write(pages, table, slot, token)
        if running:
            self._look_back(pages, tables, orders.seed[row], slot, token)
            self._say(rows, orders, row, drawn, kinds)

    def _look_back(self, pages, tables, seed, slot, token) -> None:
        request, slots = self.requests[seed], np.arange(slot + 1)
        fed = self._fed.setdefault(seed, request.tokens[:, 0].tolist())
        fed.append(token)
        assert pages[tables[0][slots // self.page], slots % self.page].tolist() == fed
        if request.is_guided:
            begins = max(np.flatnonzero(np.isin(fed, MARKERS)))
            found = pages[tables[1][slots // self.page], slots % self.page].tolist()
            assert found == [0] * begins + fed[begins:]

    def _say(self, rows, orders, row, drawn, kinds) -> None:
        phase, rng = rows.phase[row], self.rng
        if rng.random() < self.poison:
            rows.phase[row] = step.POISONED
            return
        following = np.zeros_like(rows.token[row])
        if phase == step.CLOSE:
            phase, following[0] = step.OPEN, v.ASSISTANT
        elif phase == step.OPEN:
            modality = orders.wanted[row] if orders.wanted[row] >= 0 else rng.randrange(2)
            guided = orders.guidance[row, modality] > 1
            phase = (step.UNGUIDED_TEXT if guided else step.TEXT) + modality
            following[0] = MARKERS[modality]
            rows.step[row] = 0
        else:
            rows.step[row] += 1
            longest = orders.max_steps[row, phase - step.TEXT]
            following[0] = rng.choice((v.EOS, v.EOT)) if rng.random() < 0.1 else rng.randrange(256, 999)
            drawn[row], kinds[row] = following, phase
            if following[0] < 256 or rows.step[row] >= longest:
                phase = step.STOPPED
        rows.token[row], rows.phase[row] = following, phase
        rows.position[row] += 1
