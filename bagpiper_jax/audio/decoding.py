"""Which decoder reads a file, found from its content, and what is checked of it before and after."""

import io
from typing import BinaryIO

from bagpiper_jax.audio import ffmpeg, libsndfile
from bagpiper_jax.audio.faults import Damage, TooLong, Unrecognised
from bagpiper_jax.audio.formats import aac, flac_files, mpeg, ogg
from bagpiper_jax.audio.formats.boxes import require_whole
from bagpiper_jax.audio.formats.chunks import Corrected, SoundChunk, sound_chunk
from bagpiper_jax.audio.formats.tags import skipped
from bagpiper_jax.audio.waveform import Waveform, concatenated

_WHOLE = 1 << 26
"""Files up to so many bytes are read into memory before they are decoded; of longer ones only what is needed is."""

_MOST_BYTES_A_SECOND = 1 << 16
"""Of MPEG audio; its fastest layer has 448 kbit/s."""

_MP3_IN_WAV, _WAV = 0x55, b"WAVEfmt "


def decode(stream: BinaryIO, size: int, max_seconds: float, suffix: str = "") -> Waveform:
    """The first channel of a sound.

    Args:
        stream, size: the file and its length in bytes.
        suffix: of the file's name. It counts only where nothing in the content tells the format, as of G.722.

    Raises:
        Unrecognised: no decoder knows the format.
        Damage: what can be decoded is not all that the file should have.
        TooLong: there is more than `max_seconds`.
    """
    stream.seek(0)
    if size <= _WHOLE:
        stream = io.BytesIO(stream.read(size))
    if chunk := sound_chunk(stream, size):
        return _of_chunks(stream, chunk, max_seconds)
    stream.seek(0)
    head = stream.read(32)
    if head.startswith(b"fLaC"):
        return flac_files.decode(stream, max_seconds)
    if head.startswith(b"OggS"):
        return _of_ogg(stream, size, max_seconds)
    is_finished = None if skipped(head, 0) else require_whole(stream, size)
    if is_finished is not None:
        return _by_either(stream, max_seconds, tells_length=is_finished)
    stream.seek(0)
    data = stream.read(min(size, _WHOLE + int(max_seconds * _MOST_BYTES_A_SECOND)))
    if len(data) == size and (tag := skipped(data, 0)):
        return decode(io.BytesIO(data[tag:]), max(0, size - tag), max_seconds, suffix)
    if mpeg.begins(data):
        return mpeg.decode(data, max_seconds)
    frames = aac.frames(data, len(data) == size)
    format = "g722" if suffix == ".g722" and frames is None else None
    return _by_either(stream, max_seconds, format=format, frames=frames)


def _of_chunks(stream: BinaryIO, chunk: SoundChunk, max_seconds: float) -> Waveform:
    if chunk.codec == _MP3_IN_WAV:
        stream.seek(chunk.begin)
        most = int(max_seconds + 2) * _MOST_BYTES_A_SECOND
        return mpeg.decode(stream.read(min(chunk.size, most)), max_seconds)
    stream = Corrected(stream, chunk) if chunk.correction or chunk.end else stream
    try:
        sound = libsndfile.decode(stream, max_seconds, length_is_checked=True)
    except Unrecognised as first:
        sound = _by_ffmpeg(stream, max_seconds, first)
    if chunk.correction:
        stream.seek(chunk.begin)
        if _WAV in stream.read():
            raise Damage("another WAV follows in the same file")
    return sound


def _of_ogg(stream: BinaryIO, size: int, max_seconds: float) -> Waveform:
    if size > _WHOLE:
        _by_either(stream, max_seconds)  # it is not read whole if it is too long
    stream.seek(0)
    parts, seconds = [], 0.0
    for link in ogg.links(stream.read()):
        parts.append(_by_either(io.BytesIO(link), max_seconds))
        seconds += len(parts[-1].samples) / parts[-1].rate
        if seconds > max_seconds:
            raise TooLong(seconds)
    return concatenated(parts)


def _by_either(stream: BinaryIO, max_seconds: float, **known) -> Waveform:
    try:
        return libsndfile.decode(stream, max_seconds)
    except Unrecognised as first:
        return _by_ffmpeg(stream, max_seconds, first, **known)


def _by_ffmpeg(stream: BinaryIO, max_seconds: float, first: Unrecognised, **known) -> Waveform:
    try:
        return ffmpeg.decode(stream, max_seconds, **known)
    except Unrecognised as second:
        raise Unrecognised(f"{first}; {second}") from second
