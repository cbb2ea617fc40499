"""Intervals and paired tests: beside SciPy's, and where they are known exactly."""

import time

import numpy as np
import pytest

from bagpiper_jax.evaluation.results.intervals import clustered, interval, paired

stats = pytest.importorskip("scipy.stats")
RNG = np.random.default_rng(3)  # of the parameters; tests draw their own


def singles(values):
    return clustered(values, [str(n) for n in range(len(values))])


def test_a_draw_of_two_has_the_bounds_that_one_can_count():
    """Both, one or none of two right answers are drawn with probabilities 1/4, 1/2, 1/4."""
    assert interval(singles([0.0, 1.0])) == (0.0, 1.0)


def test_what_draws_tell_nothing_of_has_no_bounds():
    assert interval(singles([1.0])) is None and interval(clustered([1.0, 0.0], ["a", "a"])) is None
    assert interval(singles([1.0, 1.0, 1.0])) is None
    assert interval(clustered([1.0, 1.0, 1.0], ["a", "a", "b"])) is None


@pytest.mark.parametrize(
    "values",
    [RNG.integers(0, 2, 400).astype(float), RNG.normal(size=150), RNG.exponential(size=40)],
    ids=["right or wrong", "normal", "skewed"],
)
def test_bounds_are_those_of_scipy(values):
    low, high = interval(singles(values), draws=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=1, vectorized=True
    ).confidence_interval
    within = 0.05 * (theirs.high - theirs.low)
    assert abs(low - theirs.low) < within and abs(high - theirs.high) < within


def test_clusters_are_drawn_whole():
    """Of unequal size, against SciPy's bootstrap of the ratio of sums."""
    rng = np.random.default_rng(7)
    sizes = rng.integers(1, 6, 120)
    clusters = np.repeat(np.arange(120), sizes).astype(str)
    values = np.repeat(rng.normal(size=120), sizes) + 0.1 * rng.normal(size=sizes.sum())
    sums = clustered(values, clusters)
    theirs = stats.bootstrap(
        (sums[:, 0], sums[:, 1]), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True,
        n_resamples=20_000, method="percentile", random_state=1,
    ).confidence_interval  # fmt: skip
    low, high = interval(sums, draws=20_000)
    within = 0.05 * (theirs.high - theirs.low)
    assert abs(low - theirs.low) < within and abs(high - theirs.high) < within
    alone = interval(singles(values))
    assert high - low > 1.5 * (alone[1] - alone[0]), "items of one cluster are no independent draws"


@pytest.mark.parametrize("count", [2, 5, 11])
def test_few_clusters_have_the_p_of_all_flips(count):
    """Against SciPy's exact permutation test of paired samples."""
    rng = np.random.default_rng(7)
    differences = rng.normal(0.4, 1, count)
    found = paired(differences, [str(n) for n in range(count)])
    theirs = stats.permutation_test(
        (differences, np.zeros(count)), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    )  # fmt: skip
    assert found.exact and found.p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_many_clusters_have_nearly_the_p_of_the_t_test():
    rng = np.random.default_rng(7)
    differences = rng.normal(0.05, 1, 1500)
    found = paired(differences, [str(n) for n in range(1500)])
    assert not found.exact
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.015)


def test_right_or_wrong_answers_have_the_p_of_mcnemars_exact_test():
    rng = np.random.default_rng(7)
    differences = rng.choice([-1.0, 0.0, 1.0], 1500, p=[0.2, 0.57, 0.23])
    found = paired(differences, [str(n) for n in range(1500)])
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    assert found.p == pytest.approx(stats.binomtest(better, better + worse).pvalue, abs=0.015)


def test_equal_systems_do_not_differ():
    found = paired([0.0] * 50, [str(n) for n in range(50)])
    assert (found.mean, found.p, found.interval) == (0.0, 1.0, None)


def test_the_seed_decides_and_the_order_of_items_does_not():
    rng = np.random.default_rng(7)
    values, clusters = rng.normal(size=300), [f"c{n // 2}" for n in range(300)]
    order = rng.permutation(300)
    again = interval(clustered(values[order], np.array(clusters)[order]))
    assert interval(clustered(values, clusters)) == pytest.approx(again, abs=1e-12)


def test_ten_thousand_items_take_no_time():
    rng = np.random.default_rng(7)
    start = time.perf_counter()
    interval(singles(rng.integers(0, 2, 10_000).astype(float)))
    assert time.perf_counter() - start < 1.0
