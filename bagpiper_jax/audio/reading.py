"""Reading of any audio file as one waveform."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import ffmpeg, libsndfile
from bagpiper_jax.audio.faults import AudioError
from bagpiper_jax.audio.lengths import MAX_SECONDS, MIN_SECONDS, SAMPLE_RATE


def read(
    source: str | os.PathLike | bytes,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
) -> Float32[np.ndarray, "samples"]:
    """Reads the first channel of any audio file, resampled (docs/reference.md, Log-mel features).

    The format is found from the content, never from the name. libsndfile is tried first, then ffmpeg's
    libraries if `av` is installed. Length is checked against the header before anything is decoded. The
    resampler is soxr (HQ), where the reference uses torchaudio's sinc.

    Args:
        source: a path, or the bytes of a file.
        max_seconds, min_seconds: accepted length, inclusive; the maximum is the published filter's
            (docs/reference.md, Rich captions).

    Raises:
        AudioError: with `reason` missing, corrupt, empty, not_finite, too_long or too_short.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise AudioError("missing", name, "no such file")
    if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
        raise AudioError("empty", name, "the file has no bytes")
    samples, rate = _decode(source, name, max_seconds)
    if not samples.size:
        raise AudioError("empty", name, "the file has no samples")
    if not np.isfinite(samples).all():
        raise AudioError(
            "not_finite", name, f"{np.count_nonzero(~np.isfinite(samples))} samples are NaN or infinite"
        )
    seconds = len(samples) / rate
    if seconds < min_seconds:
        raise AudioError("too_short", name, f"{seconds:.3f} s is below {min_seconds:g} s")
    return resample(samples, rate, sample_rate)


def resample(
    samples: Float32[np.ndarray, "n"], source_rate: float, target_rate: float
) -> Float32[np.ndarray, "m"]:
    """Resamples a waveform; equal rates return it as it is."""
    if source_rate == target_rate:
        return samples
    import soxr

    return soxr.resample(samples, source_rate, target_rate, quality="HQ").astype(np.float32, copy=False)


def _decode(source, name: str, max_seconds: float) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        with _opened(source) as stream:
            return libsndfile.decode(stream, name, max_seconds)
    except soundfile.LibsndfileError as error:
        with _opened(source) as stream:
            return ffmpeg.decode(stream, name, max_seconds, str(error))


def _opened(source: str | os.PathLike | bytes) -> BinaryIO:
    # Opening by descriptor hides the name, lest a reader judge the file by its extension.
    return io.BytesIO(source) if isinstance(source, bytes) else open(os.open(source, os.O_RDONLY), "rb")
