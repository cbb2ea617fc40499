"""Decoding by libsndfile."""

import math
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.faults import AudioError, require_length


def decode(stream: BinaryIO, name: str, max_seconds: float) -> tuple[Float32[np.ndarray, "samples"], int]:
    """The first channel and its rate. Raises LibsndfileError of what libsndfile does not read, and AudioError."""
    import soundfile

    with soundfile.SoundFile(stream) as file:
        require_length(file.frames / file.samplerate, max_seconds, name)
        return _read(file, name, max_seconds), file.samplerate


def _read(file, name: str, max_seconds: float) -> np.ndarray:
    limit = math.ceil(max_seconds * file.samplerate)
    samples = file.read(limit + 1, dtype="float32", always_2d=True)[:, 0]
    if len(samples) > limit:
        require_length(len(samples) / file.samplerate, max_seconds, name)
    # MP3 headers only estimate the length; every other format states it.
    if len(samples) < file.frames and file.format != "MP3":
        raise AudioError("corrupt", name, f"{len(samples)} of {file.frames} samples could be decoded")
    return np.ascontiguousarray(samples)
