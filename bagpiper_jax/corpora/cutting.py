"""Where a long recording is cut: at its quiet places or into equal windows, and never while somebody speaks."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE

At = Literal["silence", "windows"]
_STEP = 0.05
"""Seconds between places that may be cut."""
_QUIET = 0.2
"""Seconds around a place whose loudness is the place's."""

Span = tuple[float, float]


def pieces(
    samples: Float32[np.ndarray, "n"], longest: float, shortest: float, spoken: Iterable[Span], at: At
) -> list[Span]:
    """The spans, in seconds, that a recording is cut into; they follow each other and cover it.

    Args:
        samples: at `SAMPLE_RATE`.
        longest, shortest: seconds of a piece. A piece is longer where turns leave no place to cut.
        spoken: spans of speech, which no cut divides.
        at: "silence" cuts at the quietest place of the second half of each piece, "windows" into pieces that are as
            equal as speech permits.
    """
    total, turns = len(samples) / SAMPLE_RATE, _joined(spoken)
    loudness = _loudness(samples) if at == "silence" else None
    found, start = [], 0.0
    while total - start > longest:
        if loudness is None:
            end = _window(start, total, longest, shortest, turns)
        else:
            end = _silence(start, total, longest, shortest, turns, loudness)
        if total - end < shortest:
            break  # nobody misses so short an end, and it cannot stand alone
        found.append((start, end))
        start = end
    return [*found, (start, total)]


def _window(start: float, total: float, longest: float, shortest: float, turns: Sequence[Span]) -> float:
    end = start + (total - start) / np.ceil((total - start) / longest)
    for begin, stop in turns:
        if begin < end < stop:
            return begin if begin >= start + shortest else stop
    return round(float(end), 3)


def _silence(
    start: float, total: float, longest: float, shortest: float, turns: Sequence[Span], loudness: np.ndarray
) -> float:
    last = min(start + longest, total - shortest)
    times = np.arange(np.ceil((start + shortest) / _STEP), np.floor(last / _STEP) + 1) * _STEP
    free = np.array([t for t in times if not any(begin < t < stop for begin, stop in turns)])
    late = free[free >= start + longest / 2]
    if len(late):
        heard = loudness[np.minimum(np.round(late / _STEP).astype(int), len(loudness) - 1)]
        return round(float(late[np.flatnonzero(heard == heard.min())[-1]]), 3)
    if len(free):
        return round(float(free[-1]), 3)
    return next((stop for begin, stop in turns if begin < last < stop), last)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order; those that overlap are one."""
    found: list[Span] = []
    for begin, stop in sorted(spans):
        if found and begin < found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((begin, stop))
    return found


def _loudness(samples: Float32[np.ndarray, "n"]) -> np.ndarray:
    """Mean square around every `_STEP` of a recording."""
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    centres = np.arange(0, len(samples) + 1, round(_STEP * SAMPLE_RATE))
    half = round(_QUIET * SAMPLE_RATE / 2)
    low, high = np.maximum(centres - half, 0), np.minimum(centres + half, len(samples))
    # Differences of long sums leave a residue, which would tell one digital silence from another.
    return np.maximum((sums[high] - sums[low]) / np.maximum(high - low, 1), 1e-9)
