"""What the engine says, as a client reads it: reasoning, content, sound, and how much there was of each."""

import dataclasses
import re
from collections.abc import AsyncIterator, Iterator

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.generation.streaming import AudioDelta, Event, SegmentEnd, TextDelta
from bagpiper_jax.text import TextTokenizer

OPEN, CLOSE = "<think>", "</think>"
_QUOTED = re.compile(r'["“]([^"“”]+)["”]')


@dataclasses.dataclass(frozen=True)
class Reasoning:
    """More of what stands between `<think>` and `</think>`."""

    text: str


@dataclasses.dataclass(frozen=True)
class Content:
    """More of the text besides."""

    text: str


@dataclasses.dataclass(frozen=True)
class Sound:
    """More samples, at the codec's rate."""

    samples: Float32[np.ndarray, " samples"]


Piece = Reasoning | Content | Sound


class Answer:
    """The pieces of one answer as they come, and what they add up to.

    Attributes:
        reasoning, content: all text so far.
        text_tokens, frames: how much was made; the first is counted when a text has ended.
        complete: no segment was cut at its longest.
    """

    def __init__(self, events: AsyncIterator[Event], tokenizer: TextTokenizer, hop: int):
        self._events, self._tokenizer, self._hop = events, tokenizer, hop
        self.reasoning = self.content = ""
        self.text_tokens = self._samples = 0
        self.complete = True

    @property
    def frames(self) -> int:
        return self._samples // self._hop

    @property
    def transcript(self) -> str:
        """The lines that the text quotes; "" if it quotes none."""
        return " ".join(_QUOTED.findall(self.content))

    async def pieces(self) -> AsyncIterator[Piece]:
        """All pieces. Raises what the engine's stream raises."""
        split, said, texts = ThinkSplitter(), "", 0
        async for event in self._events:
            if isinstance(event, AudioDelta):
                self._samples += len(event.samples)
                yield Sound(event.samples)
            elif isinstance(event, TextDelta):
                if not said and texts:
                    yield self._take(Content("\n\n"))
                said += event.text
                for piece in split.add(event.text):
                    yield self._take(piece)
            elif isinstance(event, SegmentEnd):
                self.complete = self.complete and event.complete
                if event.modality == "text":
                    for piece in split.end():
                        yield self._take(piece)
                    self.text_tokens += len(self._tokenizer.encode(said)) if said else 0
                    split, said, texts = ThinkSplitter(), "", texts + 1

    def _take(self, piece: Reasoning | Content) -> Reasoning | Content:
        if isinstance(piece, Reasoning):
            self.reasoning += piece.text
        else:
            self.content += piece.text
        return piece


class ThinkSplitter:
    """Text in pieces → reasoning and content, without the tags and the line breaks beside them."""

    def __init__(self):
        self._held, self._thinks, self._trims = "", False, False

    def add(self, text: str) -> Iterator[Reasoning | Content]:
        self._held += text
        while True:
            tag = CLOSE if self._thinks else OPEN
            before, found, behind = self._held.partition(tag)
            if not found:
                break
            yield from self._out(before.rstrip("\n") if self._thinks else before)
            self._held, self._thinks, self._trims = behind, not self._thinks, True
        # What may be the beginning of a tag, or line breaks before one, waits for more.
        keep = len(self._held) - len(self._held.rstrip("\n")) if self._thinks else 0
        keep = max([keep, *(n for n in range(1, len(tag)) if self._held.endswith(tag[:n]))])
        if self._thinks and keep:
            keep += _breaks(self._held[: len(self._held) - keep])
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        yield from self._out(ready)

    def end(self) -> Iterator[Reasoning | Content]:
        held, self._held = self._held, ""
        yield from self._out(held)

    def _out(self, text: str) -> Iterator[Reasoning | Content]:
        if self._trims:
            text = text.lstrip("\n")
        if text:
            self._trims = False
            yield Reasoning(text) if self._thinks else Content(text)


def _breaks(text: str) -> int:
    """Line breaks at the end of a text."""
    return len(text) - len(text.rstrip("\n"))
