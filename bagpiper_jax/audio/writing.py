"""Writing of waveforms."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16

from bagpiper_jax.audio.faults import AudioError
from bagpiper_jax.audio.lengths import SAMPLE_RATE


def write(
    path: str | os.PathLike, samples: Float32[np.ndarray, "samples"], sample_rate: int = SAMPLE_RATE
) -> int:
    """Writes 16-bit mono FLAC or WAV, by suffix, and returns how many samples were clipped to [-1, 1].

    Raises:
        AudioError: a sample is NaN or infinite.
        ValueError: the suffix is neither `.flac` nor `.wav`.
    """
    import soundfile

    format = file_format(path)
    pcm, clipped = to_pcm(samples, path)
    soundfile.write(path, pcm, sample_rate, format=format, subtype="PCM_16")
    return clipped


def file_format(path: str | os.PathLike) -> str:
    """FLAC or WAV, by suffix. Raises ValueError: it is neither."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".flac", ".wav"):
        raise ValueError(f"{path}: audio is written as .flac or .wav, not {suffix or 'without a suffix'}")
    return suffix[1:].upper()


def to_pcm(samples: Float32[np.ndarray, "samples"], path: object) -> tuple[Int16[np.ndarray, "samples"], int]:
    """16-bit codes of a waveform, and how many samples were clipped. Raises AudioError: NaN or infinity."""
    samples = np.asarray(samples, np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("not_finite", path, "samples to be written are NaN or infinite")
    # libsndfile reads code / 32768, so this rounding makes decode(encode(x)) exact for 16-bit x.
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
    return pcm, int(np.count_nonzero(np.abs(samples) > 1.0))
