"""Audiobox Aesthetics: which windows of a clip are judged, and how their scores become the clip's, 1 to 10.

The four axes are content enjoyment (CE), content usefulness (CU), production complexity (PC), production quality (PQ).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

RATE = 16_000
WINDOW = 10 * RATE
AXES = ("CE", "CU", "PC", "PQ")


def windows(samples: int) -> list[tuple[int, int]]:
    """(start, length) in samples of the windows of 10 s, the last of what is left; the model gets zeros behind it."""
    return [(start, min(WINDOW, samples - start)) for start in range(0, samples, WINDOW)]


def weights(samples: int) -> list[float]:
    """The share of each window that is audio: its weight."""
    return [length / WINDOW for _, length in windows(samples)]


def clip_score(samples: int, scores: Sequence[float] | Float[np.ndarray, " windows"]) -> float:
    """The mean of the scores of a clip's windows, weighted by how much audio each has."""
    return float(np.average(np.asarray(scores, np.float64), weights=weights(samples)))
