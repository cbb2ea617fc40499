"""Reading of any audio file as one waveform."""

import io
import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import decoding
from bagpiper_jax.audio.faults import AudioError, Damage, TooLong, Unrecognised
from bagpiper_jax.audio.lengths import MAX_SECONDS, MIN_SECONDS, SAMPLE_RATE
from bagpiper_jax.audio.waveform import Waveform

_log = logging.getLogger(__name__)


def read(
    source: str | os.PathLike | bytes,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
) -> Float32[np.ndarray, "samples"]:
    """Reads the first channel of any audio file, whole, resampled (docs/reference.md, Log-mel features).

    The format is found from the content, not from the name; only G.722, which has no header, needs its suffix. A file
    that holds less or more than it says, that a decoder cannot make out in every part, or that changes its rate or its
    channels midway is corrupt. Files joined end to end are read as one where their format allows it (MP3, AAC, chained
    Ogg). The resampler is soxr (HQ), where the reference uses torchaudio's sinc.

    Args:
        source: a path, or the bytes of a file.
        max_seconds, min_seconds: accepted length, inclusive; the maximum is the published filter's
            (docs/reference.md, Rich captions).

    Raises:
        AudioError: with `reason` missing, unreadable, corrupt, empty, not_finite, too_long or too_short;
            corrupt is also whatever else a decoder makes of hostile bytes.
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    try:
        with _opened(source, name) as stream:
            sound = _decoded(stream, name, max_seconds)
        _require_usable(sound, name, max_seconds, min_seconds)
        return resample(sound.samples, sound.rate, sample_rate)
    except (AudioError, ImportError):  # the second is a fault of the installation
        raise
    except OSError as error:
        raise AudioError("unreadable", name, error.strerror or str(error)) from error
    except Exception as error:  # whatever a decoder makes of hostile bytes is a fault of this file alone
        _log.debug("decoding %s", name, exc_info=True)
        raise AudioError("corrupt", name, f"{type(error).__name__}: {error}") from error


def resample(
    samples: Float32[np.ndarray, "n"], source_rate: float, target_rate: float
) -> Float32[np.ndarray, "m"]:
    """Resamples a waveform; equal rates return it as it is."""
    if source_rate == target_rate:
        return samples
    import soxr

    return soxr.resample(samples, source_rate, target_rate, quality="HQ").astype(np.float32, copy=False)


def _opened(source: str | os.PathLike | bytes, name: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if Path(source).is_dir():
        raise AudioError("missing", name, "this is a folder, not a file")
    if not Path(source).is_file():
        raise AudioError("missing", name, "no such file")
    # Opening by descriptor hides the name, lest a decoder judge the file by its extension.
    return open(os.open(source, os.O_RDONLY), "rb")


def _decoded(stream: BinaryIO, name: str, max_seconds: float) -> Waveform:
    size = stream.seek(0, io.SEEK_END)
    if not size:
        raise AudioError("empty", name, "the file has no bytes")
    try:
        return decoding.decode(stream, size, max_seconds, Path(name).suffix.lower())
    except TooLong as error:
        raise AudioError("too_long", name, f"{error.seconds:.2f} s exceeds {max_seconds:g} s") from None
    except (Damage, Unrecognised) as error:
        raise AudioError("corrupt", name, str(error)) from error


def _require_usable(sound: Waveform, name: str, max_seconds: float, min_seconds: float) -> None:
    samples, seconds = sound.samples, len(sound.samples) / sound.rate
    if not samples.size:
        raise AudioError("empty", name, "the file has no samples")
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise AudioError("not_finite", name, f"{bad} samples are NaN or infinite")
    if seconds < min_seconds:
        raise AudioError("too_short", name, f"{seconds:.3f} s is below {min_seconds:g} s")
    if seconds > max_seconds:
        raise AudioError("too_long", name, f"{seconds:.2f} s exceeds {max_seconds:g} s")
