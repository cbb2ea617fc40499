"""Clips as systems hear them, and the faults of single questions."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.outcomes import RecordError


def read(path: Path, max_seconds: float) -> Float32[np.ndarray, "samples"]:
    """The first channel of a clip at 16 kHz, whatever its format, rate and channels.

    Raises RecordError: `missing_audio`, `corrupt_audio`, `too_long_audio` and the like.
    """
    try:
        return audio.read(path, max_seconds=max_seconds)
    except audio.AudioError as error:
        raise assembly.fault_of(error) from error


def fault(error: Exception) -> Reply:
    """The reply in whose place an error of one question stands. Raises the disk's faults: WriteError, JournalError."""
    found: RecordError = assembly.fault_of(error)
    said = f"{found.detail} ({found.remedy})" if found.remedy else found.detail
    return Reply(fault=found.reason, detail=said)
