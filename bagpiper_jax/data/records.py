"""The cached record: one dialogue in numbers, without padding and without template.

SeqIO tasks and the loader meet here. A record holds a message table over three payloads: text ids, codec codes
and one FLAC stream. Role tokens, delay pattern and loss weights are added when it is rendered, so they change
without caching again.
"""

import dataclasses
import itertools
import math
import struct
from typing import Any

import numpy as np

from bagpiper_jax import dialogue
from bagpiper_jax.audio import CHUNK_FRAMES, FFT_SIZE, AudioError, decode_flac, mel_frames
from bagpiper_jax.dialogue import Message
from bagpiper_jax.outcomes import RecordError

FEATURE_KEYS = (
    "msg_role", "msg_modality", "msg_start", "msg_len", "msg_weight", "msg_variant", "text", "codes", "audio",
)  # fmt: skip

_ROLE_NAMES = {id_: name for name, id_ in dialogue.ROLES.items()}
_MODALITY_NAMES = {id_: name for name, id_ in dialogue.MODALITIES.items()}
_MAGIC, _MAGIC_OF_VARIANTS = b"BPR1", b"BPR2"  # the second has one column more, the variant
_HEADER = struct.Struct("<4sHHIIH")  # magic; bytes of the id; messages; text ids; codec frames; streams


@dataclasses.dataclass(frozen=True)
class Record:
    """One dialogue in one or more variants, M messages in all.

    Attributes:
        id: of the clip it was made from.
        role, modality: int32 [M], vocabulary ids.
        start, length: int32 [M], the message's part of its payload: text ids, codec frames, or samples.
        weight: float32 [M], loss weight of the message.
        text: int32 [n], tokenizer ids of all text messages.
        codes: uint16 [N, S], frames of all assistant audio.
        audio: one FLAC stream at 16 kHz mono with all user and system audio, or b"".
        variant: int32 [M], which variant a message belongs to: 0, 0, 1, 1, 1, 2, …; variants may share payload.
    """

    id: str
    role: np.ndarray
    modality: np.ndarray
    start: np.ndarray
    length: np.ndarray
    weight: np.ndarray
    text: np.ndarray
    codes: np.ndarray
    audio: bytes = b""
    variant: np.ndarray | None = None

    def __post_init__(self):
        if self.variant is None:
            object.__setattr__(self, "variant", np.zeros(len(self.role), np.int32))

    @property
    def variants(self) -> int:
        """How many there are."""
        return int(self.variant.max(initial=0)) + 1

    @classmethod
    def from_example(cls, example: dict[str, Any], id: str = "") -> "Record":
        """From the features of a task. Raises RecordError: a feature is missing or has a wrong type."""
        missing = [key for key in FEATURE_KEYS if key not in example]
        if missing:
            raise RecordError("missing_feature", ", ".join(missing))
        table = {k: _integers(example, f"msg_{k}") for k in ("role", "modality", "start", "len", "variant")}
        weight, codes = np.asarray(example["msg_weight"]), _codes(example)
        if weight.size and weight.dtype.kind not in "iuf":
            raise RecordError("wrong_type", f"msg_weight is {weight.dtype}, wanted numbers")
        text = _integers(example, "text")
        if text.ndim != 1:
            raise RecordError("bad_text", f"shape {list(text.shape)}, wanted [n]")
        if not isinstance(example["audio"], bytes):
            raise RecordError("wrong_type", f"audio is {type(example['audio']).__name__}, wanted bytes")
        return cls(
            id=id,
            role=table["role"],
            modality=table["modality"],
            start=table["start"],
            length=table["len"],
            weight=weight.astype(np.float32),
            text=text,
            codes=codes,
            audio=example["audio"],
            variant=table["variant"],
        )

    def skeleton(self, variant: int | None = 0) -> list[Message]:
        """A variant's messages, or those of all, with ranges of the right length in place of contents.

        Lengths are computed from it.
        """
        columns = (self.role, self.modality, self.length, self.variant)
        return [
            Message(_ROLE_NAMES[r], _MODALITY_NAMES[m], range(n))
            for r, m, n, v in zip(*(column.tolist() for column in columns), strict=True)
            if variant is None or v == variant
        ]

    def messages(self, decode_audio: bool = True, variant: int = 0) -> list[Message]:
        """The messages of a variant with their contents; waveforms are zeros unless decoded.

        Raises:
            RecordError: the FLAC stream is broken, or the message table points outside.
        """
        codes = self.codes.astype(np.int32)
        waveform = None
        if decode_audio:
            waveform = _decode_audio(self.audio) if self.audio else np.zeros(0, np.float32)
        found = []
        here = self.variant == variant
        columns = (self.role, self.modality, self.start, self.length, self.weight)
        for role, modality, start, length, weight in zip(*(c[here].tolist() for c in columns), strict=True):
            if role not in _ROLE_NAMES or modality not in _MODALITY_NAMES or start < 0 or length < 1:
                raise RecordError(
                    "bad_message_table", f"role {role}, modality {modality}, span {start} + {length}"
                )
            role, modality = _ROLE_NAMES[role], _MODALITY_NAMES[modality]
            source = self.text if modality == "text" else codes if role == "assistant" else waveform
            if source is None:
                content = np.broadcast_to(np.float32(0), length)
            else:
                content = source[start : start + length]
                if len(content) != length:
                    raise RecordError("audio_too_short", f"{len(source)} of {start + length}")
            found.append(Message(role, modality, content, weight))
        return found


@dataclasses.dataclass(frozen=True)
class Measure:
    """What planning needs to know of a record.

    Attributes:
        length: rendered rows, T.
        chunks: audio chunks of 100 mel frames, C.
        direction: index into `DIRECTIONS`.
        n_text, n_frames, n_audio: text ids, codec frames, audio samples.
        variants: (length, chunks) of each variant; length, chunks and direction are those of the first.
    """

    length: int
    chunks: int
    direction: int
    n_text: int
    n_frames: int
    n_audio: int
    variants: tuple[tuple[int, int], ...]


def num_chunks(samples: int) -> int:
    """Tower chunks of a clip: ceil(mel frames / 100)."""
    return -(-mel_frames(samples) // CHUNK_FRAMES)


def measure(record: Record, num_streams: int = 8) -> Measure:
    """Lengths of a record once rendered, without decoding its audio."""
    said = [record.skeleton(variant) for variant in range(record.variants)]
    variants = tuple((dialogue.rendered_length(m, num_streams), _chunks(m)) for m in said)
    return Measure(
        *variants[0],
        direction=dialogue.DIRECTIONS.index(direction(said[0])),
        n_text=len(record.text),
        n_frames=len(record.codes),
        n_audio=max(sum(len(m.content) for m in messages if m.is_continuous) for messages in said),
        variants=variants,
    )


def _chunks(messages: list[Message]) -> int:
    return sum(num_chunks(len(m.content)) for m in messages if m.is_continuous)


def direction(messages: list[Message]) -> str:
    """Which of `DIRECTIONS` a dialogue trains, read off who says what."""
    said = {("assistant" if m.role == "assistant" else "asked", m.modality) for m in messages}
    if ("assistant", "audio") in said:
        return "generation" if ("assistant", "text") in said else "caption_to_audio"
    if ("asked", "audio") in said:
        return "understanding" if ("asked", "text") in said else "audio_to_caption"
    return "text_only"


def validate(record: Record, text_size: int, codebook_size: int, num_streams: int) -> None:
    """Checks everything that rendering relies on. Raises RecordError with a countable reason."""
    table = (record.role, record.modality, record.start, record.length, record.weight, record.variant)
    count = len(record.role)
    if count == 0:
        raise RecordError("no_messages")
    if any(column.shape != (count,) for column in table):
        raise RecordError("bad_message_table", f"column lengths {[len(column) for column in table]}")
    variant, weight = record.variant.tolist(), record.weight.tolist()
    if variant[0] != 0 or any(after - before not in (0, 1) for before, after in itertools.pairwise(variant)):
        raise RecordError("bad_variants", f"{variant} do not count up from 0")
    if not set(record.role.tolist()) <= _ROLE_NAMES.keys():
        raise RecordError("unknown_role", str(record.role.tolist()))
    if not set(record.modality.tolist()) <= _MODALITY_NAMES.keys():
        raise RecordError("unknown_modality", str(record.modality.tolist()))
    if not all(math.isfinite(w) and w >= 0 for w in weight):
        raise RecordError("bad_weight", str(weight))
    if record.codes.shape[1:] != (num_streams,):
        raise RecordError("bad_codes", f"{record.codes.shape[1:]} streams, wanted {num_streams}")
    everything = record.skeleton(None)
    _validate_spans(record, everything)
    if record.text.size and (record.text.min() < 0 or record.text.max() >= text_size):
        raise RecordError("text_out_of_range", f"{record.text.min()} to {record.text.max()} of {text_size}")
    if record.codes.size and record.codes.max() >= codebook_size:
        raise RecordError("code_out_of_range", f"{record.codes.max()} of {codebook_size}")
    heard = [m for m in everything if m.is_continuous]
    if any(len(m.content) <= FFT_SIZE // 2 for m in heard):
        raise RecordError("audio_too_short", f"log-mel features need more than {FFT_SIZE // 2} samples")
    if bool(heard) != bool(record.audio):
        raise RecordError("audio_mismatch", "audio messages and audio bytes do not agree")
    bearing = {
        v for m, w, v in zip(everything, weight, variant, strict=True) if m.role == "assistant" and w > 0
    }
    if len(bearing) <= variant[-1]:
        raise RecordError("no_loss", "no assistant message with a weight")


def _validate_spans(record: Record, messages: list[Message]) -> None:
    for message, start in zip(messages, record.start.tolist(), strict=True):
        end = start + len(message.content)
        if len(message.content) == 0:
            raise RecordError("empty_message", f"{message.role} {message.modality}")
        limit = len(record.codes) if message.is_codec else end if message.is_continuous else len(record.text)
        if start < 0 or end > limit:
            raise RecordError("bad_message_table", f"span {start}:{end} of {limit}")


def encode(record: Record) -> bytes:
    """Bytes of the core family: all but the audio."""
    name = record.id.encode("utf-8")
    frames, streams = record.codes.shape
    magic, *last = (_MAGIC_OF_VARIANTS, record.variant) if record.variant.any() else (_MAGIC,)
    header = _HEADER.pack(magic, len(name), len(record.role), len(record.text), frames, streams)
    table = (record.role, record.modality, record.start, record.length, *last)
    arrays = [(column, "<i4") for column in table]
    arrays += [(record.weight, "<f4"), (record.text, "<i4"), (record.codes, "<u2")]
    return b"".join((header, name, *(array.astype(kind, copy=False).tobytes() for array, kind in arrays)))


def decode(core: bytes, audio: bytes = b"") -> Record:
    """Inverts `encode`. Raises RecordError: the bytes are not a whole record."""
    if len(core) < _HEADER.size:
        raise RecordError("corrupt_record", f"{len(core)} bytes")
    magic, name_size, count, n_text, frames, streams = _HEADER.unpack_from(core)
    columns = 5 if magic == _MAGIC_OF_VARIANTS else 4
    at = _HEADER.size + name_size
    ends = np.cumsum([at, 4 * columns * count, 4 * count, 4 * n_text, 2 * frames * streams]).tolist()
    if magic not in (_MAGIC, _MAGIC_OF_VARIANTS) or len(core) != ends[-1]:
        raise RecordError("corrupt_record", f"{len(core)} bytes, wanted {ends[-1]}")
    table = np.frombuffer(core, "<i4", columns * count, ends[0]).reshape(columns, count)
    weight = np.frombuffer(core, "<f4", count, ends[1])
    text = np.frombuffer(core, "<i4", n_text, ends[2])
    codes = np.frombuffer(core, "<u2", frames * streams, ends[3])
    variant = table[4] if columns == 5 else None
    if variant is not None and not variant.any():
        raise RecordError("corrupt_record", "a column of variants without variants")
    try:
        name = core[_HEADER.size : at].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("corrupt_record", f"its id is no text: {error}") from error
    role, modality, start, length = table[:4]
    codes = codes.reshape(frames, streams)
    return Record(name, role, modality, start, length, weight, text, codes, audio, variant)


def _integers(example: dict[str, Any], name: str) -> np.ndarray:
    """A feature as int32, no number cut to fit. Raises RecordError."""
    values = np.asarray(example[name])
    if values.dtype == np.int32:
        return values
    _require_integers(values, name)
    limits = np.iinfo(np.int32)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise RecordError("number_too_large", f"{name}: {values.min()} to {values.max()}")
    return values.astype(np.int32)


def _codes(example: dict[str, Any]) -> np.ndarray:
    """Codes as uint16 [N, S]. Raises RecordError."""
    codes = np.asarray(example["codes"])
    _require_integers(codes, "codes")
    if codes.ndim != 2:
        raise RecordError("bad_codes", f"shape {list(codes.shape)}, wanted [N, S]")
    if codes.size and codes.dtype != np.uint16 and (codes.min() < 0 or codes.max() > np.iinfo(np.uint16).max):
        raise RecordError("code_out_of_range", f"{codes.min()} to {codes.max()}")
    return codes.astype(np.uint16, copy=False)


def _require_integers(values: np.ndarray, name: str) -> None:
    if values.size and values.dtype.kind not in "iu":
        raise RecordError("wrong_type", f"{name} is {values.dtype}, wanted integers")


def _decode_audio(data: bytes) -> np.ndarray:
    """FLAC bytes to float32 [samples]."""
    try:
        return decode_flac(data)
    except AudioError as error:
        raise RecordError("corrupt_audio", str(error)) from error
