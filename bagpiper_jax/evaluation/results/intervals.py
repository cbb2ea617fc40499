"""Intervals by bootstrap and paired tests by sign flips, both over clusters.

Items of one cluster, such as the questions about one clip, are no independent draws: clusters are drawn, with all their
items. What a draw comes to follows from how often each distinct cluster is in it, so equal clusters are drawn together,
where there are many: ten thousand right-or-wrong answers take milliseconds.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DRAWS = 2_000
_EXACT = 12
"""Clusters that differ up to which all sign flips are tried."""
_BLOCK = 1 << 22
"""Numbers that are drawn at once."""


def clustered(values: Sequence[float], clusters: Sequence[str]) -> Float[np.ndarray, "C 2"]:
    """Sum of values and number of items of each cluster."""
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, np.asarray(values, np.float64))
    return np.stack([sums, np.bincount(index)], axis=1)


def interval(
    sums: Float[np.ndarray, "C 2"], seed: int = 0, draws: int = DRAWS, share: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bounds of the mean over items; None where draws tell nothing: of one cluster, or where all are alike.

    So three right answers of three have no interval: they do not show that all others would be right.
    """
    if len(sums) < 2 or np.ptp(sums[:, 0] / sums[:, 1]) == 0:
        return None
    rng = np.random.default_rng(seed)
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    means = []
    for block in _blocks(draws, len(sums)):
        if _are_few(kinds, counts):
            totals = rng.multinomial(len(sums), counts / len(sums), size=block) @ kinds
        else:
            drawn = rng.integers(len(sums), size=(block, len(sums)), dtype=np.int32)
            totals = np.stack([column[drawn].sum(axis=1) for column in sums.T], axis=1)
        means.append(totals[:, 0] / totals[:, 1])
    tail = (1 - share) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How the mean of one system differs from that of another, on the same items.

    Attributes:
        mean: second less first.
        interval: bounds of its 95 % interval, None where draws tell nothing.
        p: how often flipped signs give a difference as large or larger: the two-sided p-value of no difference.
        exact: whether all flips were tried, else a random sample of them.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float
    exact: bool


def paired(
    differences: Sequence[float], clusters: Sequence[str], seed: int = 0, draws: int = 10_000
) -> Difference:
    """Tests differences of items, second less first: interval by bootstrap, p by sign flips, both over clusters.

    Under the hypothesis of no difference either system could have given either reply, for all items of a cluster at
    once; so the sign of each cluster's sum is as likely + as −.
    """
    sums = clustered(differences, clusters)
    p, exact = _sign_flips(sums[:, 0], np.random.default_rng(seed), draws)
    mean = float(sums[:, 0].sum() / sums[:, 1].sum())
    return Difference(mean, interval(sums, seed), p, exact)


def _sign_flips(sums: Float[np.ndarray, "C"], rng: np.random.Generator, draws: int) -> tuple[float, bool]:
    """The p-value, and whether it is exact. Clusters without a difference have no sign."""
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    total = counts.sum()
    every = np.repeat(sizes, counts)
    bound = abs(sums.sum()) - 1e-9 * every.max(initial=0)  # equal sums may come in another order
    if total <= _EXACT:
        flipped = np.array([np.dot(signs, every) for signs in itertools.product((-1, 1), repeat=total)])
        return float(np.mean(np.abs(flipped) >= bound)), True
    beyond = 0
    for block in _blocks(draws, total):
        if _are_few(sizes, counts):
            flipped = (2 * rng.binomial(counts, 0.5, size=(block, len(sizes))) - counts) @ sizes
        else:
            signs = rng.integers(2, size=(block, total), dtype=np.int8)
            flipped = 2.0 * (signs @ every) - every.sum()
        beyond += int(np.count_nonzero(np.abs(flipped) >= bound))
    return (1 + beyond) / (1 + draws), False


def _are_few(kinds: np.ndarray, counts: np.ndarray) -> bool:
    """Whether drawing how often each kind comes is less work than drawing one by one."""
    return 8 * len(kinds) < counts.sum()


def _blocks(draws: int, width: int) -> list[int]:
    """So many draws in parts whose numbers fit the memory."""
    most = max(1, _BLOCK // max(width, 1))
    return [min(most, draws - start) for start in range(0, draws, most)]
