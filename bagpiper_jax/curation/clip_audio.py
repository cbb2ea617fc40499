"""The audio of a clip as the jobs of this room hear it: what tells one file from another, and its samples."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.outcomes import RecordError


def identity(path: Path) -> tuple[str, int, int]:
    """What changes with the file: name, size and time. Raises RecordError `audio_missing`."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise RecordError("audio_missing", f"{path}: {error.strerror}", audio.REMEDIES["missing"]) from error
    return path.name, status.st_size, status.st_mtime_ns


def read(
    path: Path, max_seconds: float, sample_rate: int = audio.SAMPLE_RATE
) -> Float32[np.ndarray, "samples"]:
    """The samples of a file. Raises RecordError `audio_<reason>`."""
    try:
        return audio.read(path, sample_rate, max_seconds=max_seconds)
    except audio.AudioError as error:
        raise RecordError(f"audio_{error.reason}", error.detail, audio.REMEDIES[error.reason]) from error
