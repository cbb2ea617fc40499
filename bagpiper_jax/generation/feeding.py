"""Prompts into the cache: clips through the tower, then chunks of tokens and features through the decoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.generation import hearing
from bagpiper_jax.generation.memory import Memory
from bagpiper_jax.generation.programs import Programs
from bagpiper_jax.generation.requests import Request
from bagpiper_jax.models.configs import BagpiperConfig

WIDE = 8
"""Prompts that are fed at once, where several wait."""


class Feeder:
    """What dialogues need before they can be answered, one call of the device at a time.

    Args:
        chunk: slots that are fed in a call.
    """

    def __init__(
        self, programs: Programs, parameters: Any, model: BagpiperConfig, memory: Memory, chunk: int
    ):
        self._programs, self._parameters = programs, parameters
        self._model, self._memory, self._chunk = model, memory, chunk

    def hear(self, requests: Sequence[Request]) -> bool:
        """Some windows of the dialogues' clips through the tower; False if there are none."""
        owners = [request for request in requests for _ in request.windows][: hearing.AT_ONCE]
        if not owners:
            return False
        windows = [request.windows.pop(0) for request in owners]
        batch = hearing.batch_of(windows, self._model.tower)
        found = np.asarray(self._programs.hear(self._parameters, *batch))
        for request, features in zip(owners, found, strict=False):
            request.heard.append(features)
        for request in dict.fromkeys(owners):
            if not request.windows:
                request.features = _features(request, self._model.tower)
        return True

    def prefill(self, requests: Sequence[Request]) -> bool:
        """A chunk of the prompts of those whose clips are heard; False if all are fed."""
        for request in requests:
            self._memory.adopt(request)
            if request.windows and request.fed >= _heard_until(request.prompt):
                request.windows.clear()
        queue = self._distinct([r for r in requests if not r.is_fed and not r.windows])[:WIDE]
        if not queue:
            return False
        rows, slots = self._shapes()[len(queue) > 1]
        self._feed([(r, min(slots, len(r.tokens) - r.fed)) for r in queue[:rows]], rows, slots)
        return True

    def _distinct(self, requests: Sequence[Request]) -> list[Request]:
        """The first of those that would be fed the same page: the others wait for it, and read it then."""
        found: dict[Any, Request] = {}
        for request in requests:
            place = request.fed // self._memory.page
            found.setdefault(request.digests[place] if place < len(request.digests) else request, request)
        return list(found.values())

    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, slots) of a chunk for one prompt, and for several."""
        one = 1, self._chunk
        return one, (WIDE, self._chunk // WIDE) if self._chunk >= WIDE else one

    def _feed(self, parts: Sequence[tuple[Request, int]], rows: int, slots: int) -> None:
        tokens, features, heard = self._empty(rows, slots)
        start, count = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        tables = np.zeros((rows, self._memory.width), np.int32)
        for row, (request, fed) in enumerate(parts):
            here = slice(request.fed, request.fed + fed)
            tokens[row, :fed] = request.tokens[here]
            start[row], count[row] = request.fed, fed
            tables[row, : len(request.pages)] = request.pages
            if request.features is not None:
                places = _audio_slots(request.prompt)
                inside = (places >= here.start) & (places < here.stop)
                heard[row, places[inside] - here.start] = True
                features[row, places[inside] - here.start] = request.features[inside]
            request.fed += fed
        self._run(tokens, features, heard, start, count, tables)
        for request, fed in parts:
            self._memory.keep(request, request.fed - fed)

    def feed_zeros(self, start: int, table: np.ndarray) -> None:
        """A chunk of zero tokens from a slot on, into pages of a table [1, W]."""
        begin, count = np.array([start], np.int32), np.array([self._chunk], np.int32)
        self._run(*self._empty(1, self._chunk), begin, count, table)

    def catch_up(self, request: Request, table: np.ndarray) -> None:
        """A chunk of the segment's beginning to the unconditional branch, into pages of a table [1, W]."""
        count, first = min(request.behind, self._chunk), len(request.tokens) - request.behind
        tokens, features, heard = self._empty(1, self._chunk)
        tokens[0, :count] = request.tokens[first : first + count]
        begin, fed = np.array([first], np.int32), np.array([count], np.int32)
        self._run(tokens, features, heard, begin, fed, table)
        request.behind -= count

    def _empty(self, rows: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        decoder, streams = self._model.decoder, self._model.vocabulary.num_streams
        features = np.zeros((rows, slots, decoder.width), decoder.dtype)
        return np.zeros((rows, slots, streams), np.int32), features, np.zeros((rows, slots), bool)

    def _run(self, *arrays: np.ndarray) -> None:
        self._memory.pages = self._programs.prefill(self._parameters, self._memory.pages, *arrays)

    def warm_up(self) -> None:
        """Compiles all of it."""
        self._programs.hear(self._parameters, *hearing.batch_of([], self._model.tower))
        for rows, slots in set(self._shapes()):
            self._feed([], rows, slots)


def _heard_until(prompt: Rendered) -> int:
    """The slot behind the last audio feature of a prompt."""
    return max((span.start + span.num_tokens for span in prompt.audio), default=0)


def _audio_slots(prompt: Rendered) -> np.ndarray:
    """The slots of all audio features of a prompt, in order."""
    return np.concatenate([span.start + np.arange(span.num_tokens) for span in prompt.audio])


def _features(request: Request, tower) -> np.ndarray:
    """All audio features of a prompt, out of the windows that were heard."""
    found, first = [], 0
    for span in request.prompt.audio:
        count = hearing.num_windows(len(span.samples), tower)
        windows = request.heard[first : first + count]
        found.append(hearing.features_of(windows, len(span.samples), tower))
        first += count
    request.heard.clear()
    return np.concatenate(found)
