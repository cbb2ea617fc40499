"""What the page shows of a row and of an example: a map of slots, and all that is said, heard and generated."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.audio import CHUNK_FRAMES, SAMPLE_RATE, AudioError
from bagpiper_jax.inspection import strips
from bagpiper_jax.inspection.examples import Said, Shown, ShownRow
from bagpiper_jax.inspection.sound import Decode
from bagpiper_jax.pages.pictures import data_uri, spectrogram
from bagpiper_jax.pages.players import Recording, recording
from bagpiper_jax.vocabulary import Vocabulary

_LONGEST_HEARD = 600.0  # seconds of a corpus's file that a page may carry
_SHARP = 1000  # fewer slots than a page has pixels: no smoothing

LEGEND = {
    "bos, role, modality, end": strips.KINDS["frame"],
    "system text": strips.KINDS["system"],
    "user text": strips.KINDS["user"],
    "assistant text": strips.KINDS["assistant"],
    "audio features": strips.KINDS["heard"],
    "codec pad": strips.KINDS["pad"],
}
"""What the colours of slots mean: name → red, green, blue."""


@dataclasses.dataclass(frozen=True)
class Strips:
    """Pictures of slots.

    Attributes:
        streams, weights: `data:` addresses, a column per slot and a line per stream.
        is_text: stream 0 alone, of slots without codes.
    """

    streams: str
    weights: str
    is_text: bool


@dataclasses.dataclass(frozen=True)
class RowMap:
    """A whole row at a glance.

    Attributes:
        row: what it shows.
        starts: slot at which each example begins.
        strips: its slots.
        chunks: (clip, mel frames) of each audio chunk in use.
        anchor: the example with number n of the row has the page's anchor `<anchor><n>`.
        is_sharp: a slot is wider than a pixel.
    """

    row: ShownRow
    starts: tuple[int, ...]
    strips: Strips
    chunks: tuple[tuple[int, int], ...]
    anchor: str
    is_sharp: bool


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, `source` being its `data:` address, and what it shows."""

    source: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Message:
    """A message with its pictures and its sound; what it does not have is None.

    Attributes:
        said: what it shows.
        features: as the audio tower gets them, or codes.
        chunk: width of an audio chunk in percent of the features.
        recording: the clip that is heard, or what the codec makes of the codes.
    """

    said: Said
    features: Picture | None = None
    chunk: float | None = None
    recording: Recording | None = None


@dataclasses.dataclass(frozen=True)
class Article:
    """An example on a page.

    Attributes:
        example: what it shows.
        number: its place on the page.
        messages: of an example that is not damaged, as are `strips`.
        weights: loss weights that occur.
    """

    example: Shown
    number: int
    messages: tuple[Message, ...] = ()
    strips: Strips | None = None
    weights: str = ""


def row_map(row: ShownRow, vocabulary: Vocabulary, anchor: str = "e") -> RowMap:
    """Measures out the map of a row."""
    lengths = [len(example) for example in row.examples]
    used = row.chunks[0]
    chunks = zip(row.batch.chunk_clip[0, :used], row.batch.chunk_frames[0, :used], strict=True)
    return RowMap(
        row,
        tuple(itertools.accumulate(lengths[:-1], initial=0)),
        _strips(row.batch.tokens[0], row.batch.audio_slot[0] >= 0, row.batch.loss_weights[0], vocabulary),
        tuple((int(clip), int(frames)) for clip, frames in chunks),
        anchor,
        is_sharp=row.slots[1] < _SHARP,
    )


def _strips(tokens, heard, weights, vocabulary: Vocabulary) -> Strips:
    """Streams and weights of slots; of slots without codes stream 0 alone."""
    is_text = not tokens[:, 1:].any()
    if is_text:
        tokens, weights = tokens[:, :1], weights[:, :1]
    streams = strips.streams_picture(tokens, heard, vocabulary)
    return Strips(
        data_uri(streams, "image/png"), data_uri(strips.weights_picture(weights), "image/png"), is_text
    )


def article(example: Shown, number: int, vocabulary: Vocabulary, decode: Decode | None) -> Article:
    """An example: its messages with pictures and sound, and its slots."""
    if example.fault:
        return Article(example, number)
    weights = example.loss_weights
    return Article(
        example,
        number,
        tuple(_messages(example, vocabulary, decode)),
        _strips(example.tokens, _heard_slots(example), weights, vocabulary),
        ", ".join(f"{w:g}" for w in np.unique(weights[weights > 0])) or "none",
    )


def _messages(example: Shown, vocabulary: Vocabulary, decode: Decode | None):
    mels = iter(example.mels)
    codes = [m.codes for m in example.messages if m.codes is not None]
    waves = iter(decode(codes) if decode and codes else [])
    for message in example.messages:
        if message.codes is not None:
            yield _generated(message, next(waves, None), vocabulary)
        elif message.samples is not None:
            yield _heard(message, None if message.dropped else next(mels, None))
        else:
            yield Message(message)


def _heard(message: Said, mel: np.ndarray | None) -> Message:
    """A clip as the audio tower gets it and as it sounds."""
    sound = _recording(message.samples, "the clip, 0 to 8 kHz")
    if mel is None:
        return Message(message, recording=sound)
    caption = f"mel features, {len(mel)} frames in {-(-len(mel) // CHUNK_FRAMES)} chunks"
    features = Picture(data_uri(strips.mel_picture(mel), "image/png"), caption)
    return Message(message, features, 100 * CHUNK_FRAMES / len(mel), sound)


def _generated(message: Said, wave: np.ndarray | None, vocabulary: Vocabulary) -> Message:
    """Codes, and what the codec makes of them."""
    caption = f"codes, {len(message.codes)} frames of {message.codes.shape[1]} streams"
    picture = strips.codes_picture(message.codes, vocabulary.codebook_size)
    sound = None if wave is None else _recording(wave, "decoded by the codec")
    return Message(message, Picture(data_uri(picture, "image/png"), caption), recording=sound)


def _recording(samples: np.ndarray, caption: str) -> Recording:
    return recording(samples, f"{caption}, {len(samples) / SAMPLE_RATE:.2f} s", spectrogram)


def _heard_slots(example: Shown) -> np.ndarray:
    heard = np.zeros(len(example), bool)
    for message in example.messages:
        if message.samples is not None and not message.dropped:
            heard[message.span[0] + 2 : message.span[1] - 1] = True
    return heard


def recording_of(path: Path) -> Recording | str:
    """An audio file of a corpus, or why it cannot be read."""
    try:
        return _recording(audio.read(path, max_seconds=_LONGEST_HEARD), path.name)
    except AudioError as error:
        return str(error)
