"""Waveforms of the model as the bytes that clients expect: 24 kHz, 16 bits, mono."""

import base64
import io

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import resample

RATE = 24_000
"""Samples a second of everything that is sent: OpenAI's clients take raw samples for 24 kHz."""

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
STREAMED = ("wav", "pcm")
"""Formats whose first bytes do not wait for the last sample."""

_SUBTYPES = {
    "mp3": ("MP3", None),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
}


class PCMStream:
    """Samples at the model's rate → 16-bit little-endian samples at 24 kHz, the same in whatever pieces they come."""

    def __init__(self, source_rate: int):
        import soxr

        self._resampled = soxr.ResampleStream(source_rate, RATE, 1, dtype="float32", quality="HQ")

    def add(self, samples: Float32[np.ndarray, " samples"], last: bool = False) -> bytes:
        """The bytes that more samples make possible; with `last`, all that were held back."""
        chunk = np.ascontiguousarray(samples, np.float32)
        return _pcm(self._resampled.resample_chunk(chunk, last=last))


def encoded(samples: Float32[np.ndarray, " samples"], source_rate: int, format: str) -> bytes:
    """A whole sound in one of `MEDIA_TYPES`, or pcm16, which is pcm."""
    wave = resample(samples, source_rate, RATE)
    if format in ("pcm", "pcm16"):
        return _pcm(wave)
    import soundfile

    container, subtype = _SUBTYPES[format]
    data, pcm = io.BytesIO(), np.frombuffer(_pcm(wave), "<i2")
    soundfile.write(data, pcm, RATE, format=container, subtype=subtype)
    return data.getvalue()


def as_base64(data: bytes) -> str:
    """Bytes as JSON carries them."""
    return base64.b64encode(data).decode()


def _pcm(samples: Float32[np.ndarray, " samples"]) -> bytes:
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()
