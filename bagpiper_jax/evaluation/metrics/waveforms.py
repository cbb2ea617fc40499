"""How close two waveforms are."""

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE, log_mel

_log = logging.getLogger(__name__)
Waveform = Float32[np.ndarray, " samples"]
_SHORTEST_STOI = 0.5  # seconds; pystoi needs 30 frames of speech
_DECIBELS_PER_UNIT = 40  # of log_mel, which is (log10 power + 4) / 4


def mel_distance(a: Waveform, b: Waveform) -> float:
    """Mean absolute difference of the log-mel spectrograms in dB, over the shorter length, level aside."""
    length = min(len(a), len(b))
    if length < SAMPLE_RATE // 50:
        return float("nan")
    mels = [log_mel(np.asarray(x[:length], np.float32)) for x in (a, b)]
    return float(np.abs(mels[0] - mels[1]).mean() * _DECIBELS_PER_UNIT)


def stoi(clean: Waveform, other: Waveform) -> float:
    """Short-time objective intelligibility, 0 to 1; nan where there is too little speech or no pystoi."""
    try:
        from pystoi import stoi as measure
    except ImportError:
        _log.warning(
            "pystoi is not installed; intelligibility is not measured (pip install bagpiper_jax[data])"
        )
        return float("nan")
    length = min(len(clean), len(other))
    if length < _SHORTEST_STOI * SAMPLE_RATE:
        return float("nan")
    return float(measure(clean[:length], other[:length], SAMPLE_RATE))


def codebook_use(codes: Sequence[np.ndarray], size: int) -> list[dict[str, float]]:
    """Per codebook the share of codes that occur, and the perplexity of their distribution."""
    stacked = np.concatenate(codes)
    found = []
    for column in stacked.T:
        shares = np.bincount(column, minlength=size) / len(column)
        entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
        found.append({"used": float((shares > 0).mean()), "perplexity": float(np.exp(entropy))})
    return found
