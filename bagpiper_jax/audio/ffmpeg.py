"""Decoding by ffmpeg's libraries, of what libsndfile does not read."""

from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.faults import AudioError, require_length

# What PyAV may open. Playlists and concat scripts stay out: they make ffmpeg open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,aac,ac3,eac3,amr,mp3,mpeg,mpegts,ogg,wav,w64,aiff,caf,flac,"
    "ape,wv,flv,avi"
)


def decode(
    stream: BinaryIO, name: str, max_seconds: float, first_error: str
) -> tuple[Float32[np.ndarray, "samples"], int]:
    """The first channel and its rate. Raises AudioError, which tells libsndfile's error too."""
    try:
        import av
    except ImportError:
        raise AudioError("corrupt", name, first_error) from None
    try:
        options = {"format_whitelist": _CONTAINERS}
        with av.open(stream, options=options) as container:
            if not container.streams.audio:
                raise AudioError("corrupt", name, "the container has no audio stream")
            if container.duration:
                require_length(container.duration / av.time_base, max_seconds, name)
            return _read(container, name, max_seconds)
    except (av.FFmpegError, EOFError) as error:
        raise AudioError("corrupt", name, f"libsndfile: {first_error}; ffmpeg: {error}") from error


def _read(container, name: str, max_seconds: float) -> tuple[np.ndarray, int]:
    import av

    stream = container.streams.audio[0]
    planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    pieces, count = [], 0
    for frame in container.decode(stream):
        for converted in planar.resample(frame):
            pieces.append(converted.to_ndarray()[0])
            count += len(pieces[-1])
        require_length(count / stream.rate, max_seconds, name)
    return (np.concatenate(pieces) if pieces else np.zeros(0, np.float32)), stream.rate
