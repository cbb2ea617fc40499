"""FLAC files of others: what is decoded must be what the encoder counted and signed."""

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import Integer

from bagpiper_jax.audio import ffmpeg, flac
from bagpiper_jax.audio.faults import Damage, TooLong
from bagpiper_jax.audio.waveform import Gathered, Waveform

_BLOCK = 1 << 20  # values decoded at once
_RATES = dict(
    enumerate((88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000), 1)
)
"""Samples a second by the code in a frame; of other codes the header says it, or the frame elsewhere."""
_ANOTHER = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """The first block of a FLAC.

    Attributes:
        rate, channels, bits: of the samples.
        total: samples of each channel; 0 where the encoder did not know.
        md5: of all samples; zeros where the encoder did not know.
    """

    rate: int
    channels: int
    bits: int
    total: int
    md5: bytes


def stream_info(data: bytes) -> StreamInfo:
    """Raises Damage: the first block is another, or cut."""
    if len(data) < 42 or data[4] & 0x7F or data[5:8] != b"\x00\x00\x22":
        raise Damage("it does not begin with a STREAMINFO block")
    return StreamInfo(*flac.stated(data), data[26:42])


def decode(stream: BinaryIO, max_seconds: float) -> Waveform:
    """The first channel of a FLAC.

    Raises:
        Damage: a frame does not have its checksum, samples are missing or follow, or their MD5 is another.
        TooLong: by the header, if its last sample is there, or from decoding.
    """
    stream.seek(0)
    info = stream_info(stream.read(42))
    if info.rate and info.total > max_seconds * info.rate:
        _require_last(stream, info)
        raise TooLong(info.total / info.rate)
    stream.seek(0)
    data = stream.read()
    _require_rate(data, info)
    if any(data.find(beginning, 42) >= 0 for beginning in _ANOTHER):
        raise Damage("another FLAC follows in the same file")
    if info.total and any(info.md5) and info.bits in (8, 16, 24):
        return _signed(data, info, max_seconds)
    sound = ffmpeg.decode(io.BytesIO(data), max_seconds, "flac")
    if info.total and len(sound.samples) != info.total:
        raise Damage(f"its header tells of {info.total} samples, {len(sound.samples)} could be decoded")
    return sound


def _require_rate(data: bytes, info: StreamInfo) -> None:
    """Raises Damage: the first frame tells of another rate than the header, which no checksum covers."""
    place = 4
    while place + 4 <= len(data):
        block, place = data[place], place + 4 + int.from_bytes(data[place + 1 : place + 4], "big")
        if block & 0x80:
            break
    told = _RATES.get(data[place + 2] & 15, info.rate) if place + 2 < len(data) else 0
    if told != info.rate:
        raise Damage(f"its header tells of {info.rate} Hz, its first frame of {told} Hz")


def _require_last(stream: BinaryIO, info: StreamInfo) -> None:
    import soundfile

    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as file:
            file.seek(info.total - 1)
    except soundfile.LibsndfileError as error:
        raise Damage(f"its header tells of {info.total} samples, which are not there") from error


def _signed(data: bytes, info: StreamInfo, max_seconds: float) -> Waveform:
    gathered, digest = Gathered(max_seconds, info.rate, info.channels), hashlib.md5(usedforsecurity=False)
    for block in _blocks(data, info):
        digest.update(_packed(block, info.bits))
        gathered.add(np.multiply(block[:, 0], np.float32(2.0 ** (1 - 8 * block.itemsize)), dtype=np.float32))
    if gathered.count != info.total:
        raise Damage(f"{gathered.count} of {info.total} samples could be decoded")
    if digest.digest() != info.md5:
        raise Damage("its samples do not have the MD5 that its header states")
    return gathered.joined()


def _blocks(data: bytes, info: StreamInfo) -> Iterator[Integer[np.ndarray, "samples channels"]]:
    """Samples shifted to the top of 16 or 32 bits."""
    if info.bits == 16 and (read := flac.drflac()):
        try:
            yield read(data)
        except ValueError as error:
            raise Damage(str(error)) from error
        return
    import soundfile

    count = 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            while count < info.total:
                kind = "int32" if info.bits == 24 else "int16"
                block = file.read(max(1, _BLOCK // info.channels), dtype=kind, always_2d=True)
                if not len(block):
                    return
                count += len(block)
                yield block
    except soundfile.LibsndfileError as error:
        detail = error.error_string.strip() or "a frame is damaged or missing"
        raise Damage(f"libsndfile: {detail} after {count} of {info.total} samples") from error


def _packed(block: np.ndarray, bits: int) -> bytes:
    """Samples as the MD5 of a FLAC is made of them: little endian, in as few bytes as they need."""
    if bits == 16:
        return block.astype("<i2", copy=False).tobytes()
    if bits == 8:
        return (block >> 8).astype(np.int8).tobytes()
    return block.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
