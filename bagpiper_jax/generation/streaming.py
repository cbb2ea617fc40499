"""A dialogue's tokens as they come, as text and sound that only ever grow."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.dialogue import undelay
from bagpiper_jax.models.codecs.protocol import Codec
from bagpiper_jax.text import TextTokenizer
from bagpiper_jax.vocabulary import Vocabulary

_UNFINISHED = "\ufffd"
"""What tokenizers write for bytes that are no whole character, or not yet."""

_LONGEST = 100
"""Frames of a chunk: beyond them nothing is saved, and a listener would wait."""


@dataclasses.dataclass(frozen=True)
class TextDelta:
    """More text of a segment: all deltas of a segment, joined, are its text."""

    segment: int
    text: str


@dataclasses.dataclass(frozen=True)
class AudioDelta:
    """More samples of a segment, at the codec's rate: all of a segment, joined, are its waveform, in [-1, 1]."""

    segment: int
    samples: Float32[np.ndarray, " samples"]


@dataclasses.dataclass(frozen=True)
class SegmentEnd:
    """A segment has ended; `complete` unless it was cut at its longest."""

    segment: int
    modality: str
    complete: bool


Event = TextDelta | AudioDelta | SegmentEnd


class TextStream:
    """Ids → text, whole characters at a time."""

    def __init__(self, tokenizer: TextTokenizer):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # Text before `_said` is out. What is decoded begins a little earlier, at `_context`: some tokenizers write
        # a token differently where a text begins.
        self._context = self._said = 0

    def add(self, ids: Sequence[int]) -> str:
        """The text that the ids add, without a last character that may go on."""
        self._ids += ids
        return self._more(last=False)

    def end(self) -> str:
        """What was held back, whole character or not."""
        return self._more(last=True)

    def _more(self, last: bool) -> str:
        before = self._tokenizer.decode(self._ids[self._context : self._said])
        now = self._tokenizer.decode(self._ids[self._context :])
        if len(now) <= len(before) or (now.endswith(_UNFINISHED) and not last):
            return ""
        self._context, self._said = self._said, len(self._ids)
        return now[len(before) :]


class AudioStream:
    """Codec rows → samples, in chunks that grow from one frame on.

    A codec's samples depend on some frames to either side and on no others (`Codec.context`). A chunk is decoded with
    that many true frames around it, and where the segment begins or ends with its true edge, so the chunks are the
    samples of the whole, without a seam.
    """

    def __init__(self, codec: Codec, vocabulary: Vocabulary):
        self._codec, self._vocabulary = codec, vocabulary
        self._rows: list[np.ndarray] = []
        self._done, self._least = 0, 1

    def add(
        self, rows: Sequence[np.ndarray], last: bool = False
    ) -> Iterator[Float32[np.ndarray, " samples"]]:
        """The chunks that more rows [S] make possible; with `last`, all that are left."""
        self._rows += rows
        frames = max(0, len(self._rows) - self._vocabulary.num_streams + 1)
        ready = frames if last else frames - self._codec.context
        while ready > self._done and (last or ready - self._done >= self._least):
            end = min(ready, self._done + _LONGEST)
            yield self._decoded(end, frames)
            self._done, self._least = end, min(2 * self._least, _LONGEST)

    def _decoded(self, end: int, frames: int) -> Float32[np.ndarray, " samples"]:
        first = max(0, self._done - self._codec.context)
        beyond = min(frames, end + self._codec.context)
        rows = np.array(self._rows[first : beyond + self._vocabulary.num_streams - 1])
        (samples,) = self._codec.decode([self._vocabulary.ids_to_codes(undelay(rows))])
        hop = self._codec.hop
        return samples[(self._done - first) * hop : (end - first) * hop]


class SegmentStream:
    """The events of one segment."""

    def __init__(
        self,
        segment: int,
        modality: str,
        tokenizer: TextTokenizer,
        codec: Codec | None,
        vocabulary: Vocabulary,
    ):
        self._segment, self._modality, self._vocabulary = segment, modality, vocabulary
        self._text = TextStream(tokenizer)
        self._audio = AudioStream(codec, vocabulary) if codec is not None else None

    def add(self, rows: Sequence[np.ndarray]) -> Iterator[Event]:
        """Events of more rows [S] of the segment, terminators not among them."""
        if self._modality == "text":
            ids = self._vocabulary.ids_to_text(np.array([row[0] for row in rows], np.int32))
            yield from self._texts(self._text.add(ids.tolist()))
        elif self._audio is not None:
            yield from (AudioDelta(self._segment, samples) for samples in self._audio.add(rows))

    def end(self, complete: bool) -> Iterator[Event]:
        """The last events of the segment."""
        if self._modality == "text":
            yield from self._texts(self._text.end())
        elif self._audio is not None:
            yield from (AudioDelta(self._segment, samples) for samples in self._audio.add([], last=True))
        yield SegmentEnd(self._segment, self._modality, complete)

    def _texts(self, text: str) -> Iterator[Event]:
        if text:
            yield TextDelta(self._segment, text)
