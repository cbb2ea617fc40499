"""Dialogues and how they become token rows. The only place that knows the sequence format.

Layout (docs/reference.md, Message layout): `<bos>`, then per message `<role> <modality> content terminator`, where the
terminator is `<eot>` if the next message has the same role and `<eos>` otherwise. User and system audio is
continuous: a run of zero rows that the model overwrites with audio-tower features. Assistant audio is codec
tokens, delay-interleaved: N frames become N+S-1 rows (docs/reference.md, Delay pattern).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from bagpiper_jax import vocabulary as v
from bagpiper_jax.audio import mel_frames, tower_tokens
from bagpiper_jax.errors import Explained
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT, Vocabulary

ROLES = {"system": v.SYSTEM, "user": v.USER, "assistant": v.ASSISTANT}
MODALITIES = {"text": v.TEXT, "audio": v.AUDIO}
_FRAME_TOKENS = 3  # role, modality and terminator around every content


DIRECTIONS = ("caption_to_audio", "audio_to_caption", "text_only", "understanding", "generation")
"""What a dialogue teaches; losses are reported for each."""

CORRUPT = -1
"""In place of a direction: the example's record is damaged, its slots are empty."""


class DialogueError(Explained, ValueError):
    """A dialogue that cannot be rendered; the message says which message and why."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One message of a dialogue, first as somebody wrote it, then in numbers.

    Attributes:
        role: system, user or assistant.
        modality: text or audio.
        content: as written, the text itself, or of audio a clip's id, a path or a 16 kHz waveform. In numbers, which
            is what `render` takes, text → int tokenizer ids [n]; assistant audio → codes [N, S]; user or system
            audio → float32 mono waveform [samples] at 16 kHz.
        weight: multiplies the loss weights of the message.
        tail: codes [S-1, S] of the padded silence after the clip, which the release trains on in place of
            stream pads for all but the longest clip of a batch (docs/reference.md, Delay pattern). None gives true
            pads.
    """

    role: str
    modality: str
    content: str | np.ndarray
    weight: float = 1.0
    tail: np.ndarray | None = None

    def __post_init__(self):
        if self.role not in ROLES:
            raise DialogueError(f"unknown role {self.role!r}; known: {', '.join(ROLES)}")
        if self.modality not in MODALITIES:
            raise DialogueError(f"unknown modality {self.modality!r}; known: {', '.join(MODALITIES)}")

    @property
    def is_codec(self) -> bool:
        return self.modality == "audio" and self.role == "assistant"

    @property
    def is_continuous(self) -> bool:
        return self.modality == "audio" and self.role != "assistant"


@dataclasses.dataclass(frozen=True)
class AudioSpan:
    """A waveform and the slot where the first of its tower features is written."""

    start: int
    samples: Float32[np.ndarray, "samples"]

    @property
    def num_tokens(self) -> int:
        return tower_tokens(mel_frames(len(self.samples)))


@dataclasses.dataclass(frozen=True)
class Rendered:
    """One rendered example: T token rows, their loss weights and the audio they listen to.

    `loss_weights[t]` is the weight of *predicting* row t from row t-1, codec class weight included.
    `spans[i]` is the half-open range of rows of message i, role token to terminator.
    """

    tokens: Int32[np.ndarray, "T S"]
    loss_weights: Float32[np.ndarray, "T S"]
    audio: tuple[AudioSpan, ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclasses.dataclass(frozen=True)
class RenderConfig:
    """How dialogues are rendered.

    Attributes:
        loss_region: "assistant" or "all" messages bear loss.
        stream_weights: loss weight per codec stream, before the class weight; length S.
        released_bang_is_pad: True reproduces the release's loss of "!" (text id 0 becomes `<|pad|>` in the
            input and no target; docs/reference.md, Exclamation mark).
    """

    loss_region: str = "assistant"
    stream_weights: tuple[float, ...] = (1.0,) * 8
    released_bang_is_pad: bool = False

    def __post_init__(self):
        if self.loss_region not in ("assistant", "all"):
            raise ValueError(f"loss_region must be 'assistant' or 'all', got {self.loss_region!r}")


def content_length(message: Message, num_streams: int = 8) -> int:
    """Rows that a message's content occupies."""
    if message.is_codec:
        return len(message.content) + num_streams - 1
    if message.is_continuous:
        return tower_tokens(mel_frames(len(message.content)))
    return len(message.content)


def rendered_length(messages: Sequence[Message], num_streams: int = 8) -> int:
    """Rows of the rendered dialogue: 1 + Σ (3 + content)."""
    return 1 + sum(_FRAME_TOKENS + content_length(m, num_streams) for m in messages)


def render(
    messages: Sequence[Message], vocabulary: Vocabulary, config: RenderConfig = RenderConfig()
) -> Rendered:
    """Renders a dialogue to token rows, loss weights and audio spans.

    See docs/reference.md, Message layout, Loss mask and Delay pattern.

    Raises:
        DialogueError: a message is empty, of the wrong shape or out of the vocabulary's range.
    """
    if not messages:
        raise DialogueError("a dialogue needs at least one message")
    if len(config.stream_weights) != vocabulary.num_streams:
        raise ValueError(f"stream_weights must have {vocabulary.num_streams} entries")
    length, streams = rendered_length(messages, vocabulary.num_streams), vocabulary.num_streams
    tokens = np.zeros((length, streams), np.int32)
    weights = np.zeros((length, streams), np.float32)
    audio, spans = [], []
    tokens[0, 0] = v.BOS
    start = 1
    for index, message in enumerate(messages):
        following = messages[index + 1] if index + 1 < len(messages) else None
        bears_loss = message.weight * (config.loss_region == "all" or message.role == "assistant")
        try:
            rows, row_weights = _content(message, vocabulary, config)
        except ValueError as error:
            raise DialogueError(f"message {index} ({message.role} {message.modality}): {error}") from error
        body, end = start + 2, start + 2 + len(rows)
        tokens[start, 0] = ROLES[message.role]
        tokens[start + 1, 0] = MODALITIES[message.modality]
        tokens[body:end] = rows
        same_role = following is not None and following.role == message.role
        tokens[end, 0] = v.EOT if same_role else v.EOS
        weights[[start, start + 1, end], 0] = bears_loss
        weights[body:end] = bears_loss * row_weights
        if message.is_continuous:
            audio.append(AudioSpan(body, np.asarray(message.content, np.float32)))
        spans.append((start, end + 1))
        start = end + 1
    return Rendered(tokens, weights, tuple(audio), tuple(spans))


def render_prompt(messages: Sequence[Message], vocabulary: Vocabulary) -> Rendered:
    """Renders what precedes the first assistant message: the prompt of generation."""
    prompt = []
    for message in messages:
        if message.role == "assistant":
            break
        prompt.append(message)
    return render(prompt, vocabulary, RenderConfig(stream_weights=(1.0,) * vocabulary.num_streams))


def _content(message: Message, vocabulary: Vocabulary, config: RenderConfig):
    """Token rows [n, S] and their loss weights [n, S] for one message's content."""
    if not (math.isfinite(message.weight) and message.weight >= 0):
        raise ValueError(f"weight {message.weight} is no finite number from 0")
    count = content_length(message, vocabulary.num_streams)
    if count == 0:
        raise ValueError("content is empty")
    if message.is_codec:
        rows = delay(vocabulary.codes_to_ids(message.content), vocabulary, message.tail)
        weights = np.full(rows.shape, CODEC_CLASS_WEIGHT, np.float32) * np.asarray(
            config.stream_weights, np.float32
        )
        return rows, weights
    rows = np.zeros((count, vocabulary.num_streams), np.int32)
    weights = np.zeros(rows.shape, np.float32)
    if message.is_continuous:
        return rows, weights
    rows[:, 0] = vocabulary.text_to_ids(message.content)
    if config.released_bang_is_pad:
        rows[rows[:, 0] == vocabulary.text_start, 0] = v.PAD
    weights[:, 0] = rows[:, 0] != v.PAD
    return rows, weights


def delay(
    ids: Int32[np.ndarray, "N S"], vocabulary: Vocabulary, tail: np.ndarray | None = None
) -> Int32[np.ndarray, "N+S-1 S"]:
    """Delay-interleaves codec ids: stream s stands at rows s … s+N-1, its pad elsewhere.

    See docs/reference.md, Delay pattern.
    """
    frames, streams = ids.shape
    rows = np.tile(vocabulary.stream_pads(), (frames + streams - 1, 1))
    if tail is not None:
        ids = np.concatenate([ids, vocabulary.codes_to_ids(tail)])
    for stream in range(streams):
        column = ids[: len(rows) - stream, stream]
        if tail is None:
            column = column[:frames]
        rows[stream : stream + len(column), stream] = column
    return rows


def undelay(rows: Int32[np.ndarray, "R S"]) -> Int32[np.ndarray, "R-S+1 S"]:
    """Inverts `delay`; rows shorter than one full diagonal give no frames."""
    streams = rows.shape[1]
    frames = max(0, len(rows) - streams + 1)
    return np.stack([rows[s : s + frames, s] for s in range(streams)], axis=1)


def drop_condition(rendered: Rendered, keep: int) -> Rendered:
    """Classifier-free-guidance dropout: all but message `keep` becomes zero tokens of the same length.

    The kept message is an assistant's codec audio, chosen by the caller; its role and modality tokens and its
    terminator stay. Continuous audio is dropped as well. Unlike the release, codes of other generated audio in
    the dialogue stay dropped (docs/reference.md, Guidance dropout).
    """
    start, end = rendered.spans[keep]
    kept = np.zeros((len(rendered), 1), bool)
    kept[start:end] = True
    return dataclasses.replace(
        rendered,
        tokens=np.where(kept, rendered.tokens, 0).astype(np.int32),
        loss_weights=np.where(kept, rendered.loss_weights, 0).astype(np.float32),
        audio=(),
    )


def parse(
    tokens: Int32[np.ndarray, "T S"], vocabulary: Vocabulary
) -> tuple[tuple[str, str, np.ndarray], ...]:
    """Reads rows back as (role, modality, content) triples; the inverse of `render` for text and codec content.

    Content is text ids [n] or codes [N, S]; continuous audio comes back as an empty float32 array, since its
    rows are placeholders. A message without terminator (a generation cut short) is read to the end.
    """
    roles = {id_: name for name, id_ in ROLES.items()}
    modalities = {id_: name for name, id_ in MODALITIES.items()}
    row, found = 0, []
    while row + 1 < len(tokens):
        role, modality = roles.get(int(tokens[row, 0])), modalities.get(int(tokens[row + 1, 0]))
        if role is None or modality is None:
            row += 1
            continue
        ends = np.flatnonzero(np.isin(tokens[row + 2 :, 0], (v.EOS, v.EOT)))
        end = row + 2 + int(ends[0]) if len(ends) else len(tokens)
        found.append((role, modality, _read_content(role, modality, tokens[row + 2 : end], vocabulary)))
        row = end + 1
    return tuple(found)


def _read_content(role: str, modality: str, rows: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    if modality == "text":
        return vocabulary.ids_to_text(rows[:, 0])
    if role == "assistant":
        return vocabulary.ids_to_codes(undelay(rows))
    return np.zeros(0, np.float32)
