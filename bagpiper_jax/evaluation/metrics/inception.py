"""Inception score: how sure a classifier is of each clip, and how various the clips are; 1 and above, no unit.

As audioldm_eval has it: softmax in float64, clips shuffled by NumPy's RandomState(2020), ten parts, in each
exp(mean KL of its clips to their mean), then mean and standard deviation over parts. Small sets come out low, so quote
how many clips there were: ten give exactly 1, fewer give nan.
"""

import numpy as np
from jaxtyping import Float

from bagpiper_jax.evaluation.metrics.divergence import softmax

SPLITS, SEED = 10, 2020


def inception_score(
    logits: Float[np.ndarray, "clips classes"], splits: int = SPLITS, seed: int = SEED
) -> tuple[float, float]:
    """Mean and population standard deviation over parts; nan with fewer clips than parts."""
    count = len(logits)
    if count < splits:
        return float("nan"), float("nan")
    shares = softmax(np.asarray(logits)[np.random.RandomState(seed).permutation(count)])
    scores = [_score(shares[i * count // splits : (i + 1) * count // splits]) for i in range(splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(shares: Float[np.ndarray, "clips classes"]) -> float:
    mean = shares.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * (np.log(shares) - np.log(mean)), 0.0)
    return float(np.exp(terms.sum(-1).mean()))
