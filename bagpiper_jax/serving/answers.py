"""What the engine says, as a client reads it: reasoning, content, sound, and how much there was of each."""

import dataclasses
import re
from collections.abc import AsyncIterator

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.generation.streaming import AudioDelta, Event, SegmentEnd, TextDelta
from bagpiper_jax.generation.thinking import Content, Reasoning, ThinkSplitter
from bagpiper_jax.text import TextTokenizer

_QUOTED = re.compile(r'["“]([^"“”]+)["”]')


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
