"""What evaluators hear of a file."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio

LONGEST = 600.0
"""Seconds of a clip that can be judged."""

_PEAK = 10 ** (-1 / 20)


def read(path: Path, rate: int) -> Float32[np.ndarray, " samples"]:
    """The first channel, resampled. Raises audio.AudioError, which names the file and what is wrong with it."""
    return audio.read(path, rate, max_seconds=LONGEST)


def read_as_librosa(path: Path, rate: int) -> Float32[np.ndarray, " samples"]:
    """The same, as long as librosa has it, which rounds a length up and adds a zero where the resampler gave less."""
    import soundfile

    samples, found = read(path, rate), soundfile.info(path)
    return np.pad(samples, (0, max(0, math.ceil(found.frames * (rate / found.samplerate)) - len(samples))))


def at_peak(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """The samples with a peak of −1 dB below full scale; silence stays."""
    peak = np.abs(samples).max()
    return samples * np.float32(_PEAK / peak) if peak else samples


def seconds(path: Path) -> float:
    """How long a clip is. Raises audio.AudioError."""
    return len(read(path, audio.SAMPLE_RATE)) / audio.SAMPLE_RATE


def remarks(path: Path) -> str:
    """What of a clip is not heard as it is, as a sentence; "" if all is."""
    import soundfile

    found = soundfile.info(path)
    said = [f"{found.channels} channels, of which the first is heard"] if found.channels > 1 else []
    said += [f"{found.samplerate} Hz, resampled"] if found.samplerate != audio.SAMPLE_RATE else []
    return "; ".join(said)
