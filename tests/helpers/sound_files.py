"""Sound files of many formats, as bytes, written by libsndfile and by ffmpeg's libraries."""

import io

import numpy as np
import soundfile

RATE = 16_000


def noise_and_tone(seconds: float = 1.25, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Float32 samples in which no second is like another: a rising tone in a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.4 * np.sin(2 * np.pi * (300 + 400 * time) * time) + 0.02 * noise).astype(np.float32)


def by_libsndfile(samples: np.ndarray, format: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


class Pipe:
    """What can only be written onward, as a pipe."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def by_ffmpeg(
    samples: np.ndarray,
    format: str,
    codec: str,
    rate: int = RATE,
    into=None,
    start=0,
    codec_options=None,
    **options,
) -> bytes:
    """A mono file, or a stereo one of samples [n, 2].

    Args:
        into: a `Pipe`, else a file in memory that can be written anywhere.
        start: the sample of the container's time at which the sound begins.
        options: of the container.
    """
    import av

    file = into or io.BytesIO()
    layout = "mono" if samples.ndim == 1 else "stereo"
    with av.open(file, "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=codec_options or {})
        stream.bit_rate = 64_000
        values = np.ascontiguousarray(samples[None] if samples.ndim == 1 else samples.T)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, start
        for converted in [*av.AudioResampler(stream.format, layout, rate).resample(frame), None]:
            container.mux(stream.encode(converted))
    return bytes(file.data) if into else file.getvalue()


def mp3(samples: np.ndarray, rate: int = RATE, kilobits: int = 64, xing: bool = True) -> bytes:
    """An MP3 of constant bit rate; without `xing`, frames alone, of which none needs the one before."""
    options = {"b": f"{kilobits}k", "reservoir": str(int(xing))}
    tags = {"write_xing": str(int(xing)), "id3v2_version": "3" if xing else "0"}
    return by_ffmpeg(samples, "mp3", "libmp3lame", rate, codec_options=options, **tags)


def amr(frames: int) -> bytes:
    """AMR of 20 ms frames at 12.2 kbit/s, of any content."""
    speech = np.random.default_rng(0).bytes(31 * frames)
    return b"#!AMR\n" + b"".join(b"\x3c" + speech[31 * n : 31 * n + 31] for n in range(frames))
