"""Fréchet distance between two sets of embeddings, the "FAD" and "FD" of generated audio.

‖μ1 − μ2‖² + tr C1 + tr C2 − 2 tr √(C1 C2), with means and covariances (over n − 1) of all windows of all files, so that
a long file weighs more. The scripts of frechet_audio_distance, audioldm_eval, stable-audio-metrics and fadtk take
SciPy's matrix root, which differs between its versions. Its trace is as well the sum of the roots of the eigenvalues
of √C1 C2 √C1, a symmetric matrix, which needs no special cases and agrees with them to 1e-6. The unit is the square of
the embedding's own.
"""

import dataclasses

import numpy as np
from jaxtyping import Float


class TooFewWindows(ValueError):
    """A set of fewer than two windows has no covariance."""


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Mean [D] and covariance [D, D] of a set of embeddings."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, embeddings: Float[np.ndarray, "windows D"]) -> "Gaussian":
        """Raises TooFewWindows; ValueError: an embedding is not finite."""
        values = np.asarray(embeddings, np.float64)
        if len(values) < 2:
            raise TooFewWindows(
                f"a covariance needs two windows or more, there are {len(values)}: add clips, or longer ones"
            )
        if not np.isfinite(values).all():
            raise ValueError("embeddings hold NaN or infinity")
        return cls(values.mean(0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(reference: Float[np.ndarray, "n D"], generated: Float[np.ndarray, "m D"]) -> float:
    """The distance between two sets of embeddings; 0 for equal ones, up to rounding.

    Raises:
        TooFewWindows: one of them has a single window or none.
        ValueError: an embedding is not finite.
    """
    return between(Gaussian.of(reference), Gaussian.of(generated))


def between(first: Gaussian, second: Gaussian) -> float:
    """The same of means and covariances; the order does not matter."""
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    products = np.linalg.eigvalsh(root @ second.covariance @ root)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    cross = np.sqrt(np.maximum(products, 0.0)).sum()
    return float(((first.mean - second.mean) ** 2).sum() + traces - 2 * cross)
