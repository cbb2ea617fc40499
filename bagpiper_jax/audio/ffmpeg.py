"""Decoding by ffmpeg's libraries, of what libsndfile does not read. Whatever they would conceal is damage."""

import dataclasses
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.faults import Damage, Unrecognised
from bagpiper_jax.audio.waveform import Gathered, Waveform, changed

# What may be opened. Playlists and concat scripts stay out: they make ffmpeg open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,aac,ac3,eac3,amr,amrnb,amrwb,mp3,mpeg,mpegts,ogg,wav,w64,aiff,caf,au,flac,"
    "ape,wv,tta,flv,avi,g722"
)
_STRICT = {"err_detect": "crccheck+explode"}

# Containers whose headers say how long the sound is; of others ffmpeg guesses from the bit rate.
_STATED = frozenset("mov matroska asf flv avi wv tta ape flac wav w64 caf aiff au".split())
_EXACT = ("wv", "tta", "ape", "flac")


def decode(
    stream: BinaryIO,
    max_seconds: float,
    format: str | None = None,
    frames: int | None = None,
    tells_length: bool = True,
) -> Waveform:
    """The first channel of a sound.

    Args:
        format: ffmpeg's name of the format, where the content does not tell it.
        frames: how many must be decoded, where that is known.
        tells_length: the header was finished; else its program could not know how long the sound would be.

    Raises:
        Unrecognised: ffmpeg does not know the format, or `av` is not installed.
        Damage, TooLong.
    """
    try:
        import av
    except ImportError as error:
        raise Unrecognised("`av` is not installed, which reads more formats (pip install av)") from error
    stream.seek(0)
    try:
        container = av.open(stream, format=format, options={**_STRICT, "format_whitelist": _CONTAINERS})
    except av.ArgumentError as error:  # what ffmpeg says of a container outside the list
        raise Unrecognised("ffmpeg: a container that is not accepted here") from error
    except (av.FFmpegError, ValueError) as error:
        raise Unrecognised(f"ffmpeg: {_reason(error)}") from error
    with container:
        try:
            return _decoded(container, max_seconds, frames, tells_length)
        except (av.FFmpegError, EOFError) as error:
            raise Damage(f"ffmpeg: {_reason(error)}") from error


def _decoded(container, max_seconds: float, frames: int | None, tells_length: bool) -> Waveform:
    if container.format.name == "mp3" or (container.format.name == "aac" and frames is None):
        raise Damage("its frames do not follow each other")
    if not container.streams.audio:
        raise Damage("the container has no audio")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise Damage("ffmpeg has no decoder for its codec")
    stream.codec_context.options = _STRICT
    gathered, form, sizes = None, None, []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise Damage("a packet is damaged or cut")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise Damage("a frame is damaged")
            here = (frame.sample_rate, frame.layout.nb_channels)
            form, gathered = form or here, gathered or Gathered(max_seconds, *here)
            if here != form:
                raise changed(form, here, gathered.count / form[0])
            gathered.add(_first_channel(frame))
            sizes.append(frame.samples)
    if gathered is None:
        raise Damage("nothing could be decoded")
    if frames is not None and len(sizes) != frames:
        raise Damage(f"{len(sizes)} of {frames} frames could be decoded")
    sound = gathered.joined()
    return _as_stated(container, stream, max(sizes), sound) if tells_length else sound


def _as_stated(container, stream, longest: int, sound: Waveform) -> Waveform:
    """The sound, cut to the length that an MP4 states. Raises Damage: it differs from what the header says."""
    name = container.format.name.split(",")[0]
    stated = float(stream.duration * stream.time_base) if stream.duration else None
    if stated is None and container.duration and len(container.streams) == 1:
        stated = container.duration / 1e6
        if name == "matroska":  # counted from zero, at which the sound need not begin
            stated -= max(0, container.start_time or 0) / 1e6
    if stated is None or name not in _STATED:
        return sound
    decoded = len(sound.samples) / sound.rate
    if abs(decoded - stated) > (0.002 if name in _EXACT else 0.05 + 2 * longest / sound.rate):
        raise Damage(f"its header tells of {stated:.3f} s, {decoded:.3f} s could be decoded")
    if name == "mov" and stream.frames:  # ffmpeg leaves out an encoder's delay, but not its padding
        return dataclasses.replace(sound, samples=sound.samples[: round(stated * sound.rate)])
    return sound


def _first_channel(frame) -> Float32[np.ndarray, "samples"]:
    values = frame.to_ndarray()
    values = values[0] if frame.format.is_planar else values[0, :: frame.layout.nb_channels]
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) / -float(np.iinfo(values.dtype).min)
    return values.astype(np.float32)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
