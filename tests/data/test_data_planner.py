"""The pack plan: a permutation that is one, rows that never overflow, epochs that cover, rates that come out."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagpiper_jax.data.packing import pack
from bagpiper_jax.data.planner import FinitePlan, PackPlanError, Plan, TaskLengths
from bagpiper_jax.data.shuffle import permute, round_keys, stable_hash

examples = st.lists(st.tuples(st.integers(1, 64), st.integers(0, 6)), min_size=1, max_size=120)


def task(name, count, rate=1.0, seed=0, longest=900, chunks=5) -> TaskLengths:
    rng = np.random.default_rng([seed, stable_hash(name) % 2**32])
    lengths = rng.integers(20, longest, count).astype(np.int32)
    return TaskLengths(
        name, rate, lengths, rng.integers(0, chunks + 1, count).astype(np.int32), np.zeros_like(lengths)
    )


MIXTURE = (task("a", 700), task("b", 300, 2.0), task("c", 41, 0.3))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size, key):
    moved = permutation(size, key)
    np.testing.assert_array_equal(np.sort(moved), np.arange(size))
    some = np.asarray([size - 1, 0, size // 2])
    np.testing.assert_array_equal(
        permute(some, np.full(3, size), np.tile(round_keys(key), (3, 1))), moved[some]
    )


def permutation(size: int, key: int) -> np.ndarray:
    return permute(np.arange(size), np.full(size, size), np.tile(round_keys(key), (size, 1)))


def test_permutations_of_many_sizes_at_once_are_those_of_each():
    sizes, keys = (1, 2, 17, 4096, 65_537), range(5)
    together = permute(
        np.concatenate([np.arange(size) for size in sizes]),
        np.repeat(sizes, sizes),
        np.repeat([round_keys(key) for key in keys], sizes, axis=0),
    )
    each = [permutation(size, key) for size, key in zip(sizes, keys, strict=True)]
    np.testing.assert_array_equal(together, np.concatenate(each))


def test_permute_mixes():
    """No correlation with the order, and none between epochs (|r| of 10,000 random pairs is below 0.04)."""
    one, other = permutation(10_000, 1), permutation(10_000, 2)
    assert abs(np.corrcoef(one, np.arange(10_000))[0, 1]) < 0.04
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.04
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.04


@settings(max_examples=150, deadline=None)
@given(examples)
def test_packing_uses_each_example_once_within_both_budgets(found):
    lengths, chunks = np.asarray(found).T
    row_of = pack(lengths, chunks, slots=64, max_chunks=6)
    assert set(row_of) == set(range(row_of.max() + 1)), "rows are numbered without gaps"
    assert np.bincount(row_of, lengths).max() <= 64 and np.bincount(row_of, chunks).max() <= 6
    np.testing.assert_array_equal(pack(lengths, chunks, 64, 6), row_of)


def test_packing_fills_the_scarce_budget():
    rng = np.random.default_rng(0)
    lengths, chunks = rng.integers(10, 60, 2000), rng.integers(1, 9, 2000)
    by_slots, by_chunks = pack(lengths, chunks, 256, 100), pack(lengths, chunks, 4096, 32)
    assert lengths.sum() / (256 * (by_slots.max() + 1)) > 0.99
    assert chunks.sum() / (32 * (by_chunks.max() + 1)) > 0.99


def test_a_tight_second_budget_leaves_rows_full():
    """Dealing in rounds alone would fill 95 % here; best fit takes over."""
    rng = np.random.default_rng(0)
    text, seconds, kind = rng.lognormal(5.9, 0.45, 4096), rng.gamma(2.0, 5.0, 4096), rng.integers(0, 3, 4096)
    heard = np.where(kind == 1, np.clip(np.ceil(seconds), 1, 24), 0).astype(int)
    lengths = np.clip(text + np.choose(kind, [50 * seconds, 13 * seconds, 0 * seconds]), 20, 8192).astype(int)
    row_of = pack(lengths, heard, 8192, 24)
    assert heard.sum() / (24 * (row_of.max() + 1)) > 0.99
    assert np.bincount(row_of, lengths).max() <= 8192 and np.bincount(row_of, heard).max() <= 24


def test_nothing_packs_into_no_rows_and_rows_without_audio_need_no_chunks():
    assert len(pack(np.zeros(0, int), np.zeros(0, int), 64, 6)) == 0
    row_of = pack(np.full(10, 32), np.zeros(10, int), 64, 0)
    assert row_of.max() + 1 == 5


def test_rows_stay_within_budgets():
    plan = Plan(MIXTURE, slots=1024, max_chunks=12, seed=0, window=256)
    for window in range(6):
        for row in plan.window(window):
            assert 0 < row.length.sum() <= 1024 and row.chunks.sum() <= 12


def test_epochs_cover_each_example_floor_or_ceil_times():
    plan = Plan(MIXTURE, slots=1024, max_chunks=12, seed=0, window=256)
    windows = 23
    counts = [collections.Counter() for _ in MIXTURE]
    for window in range(windows):
        for row in plan.window(window):
            for t, index in zip(row.task, row.index, strict=True):
                counts[t][int(index)] += 1
    for t, count in enumerate(counts):
        size = len(MIXTURE[t].length)
        expected = plan.consumed(windows)[t] / size
        assert set(count.values()) <= {int(expected), int(expected) + 1}
        assert len(count) == size or expected < 1
        assert sum(count.values()) == plan.consumed(windows)[t]


@pytest.mark.parametrize("rate_unit", ["examples", "tokens"])
def test_rates_come_out(rate_unit):
    tasks = (task("short", 500, 1.0, longest=60), task("long", 500, 3.0, longest=900))
    plan = Plan(tasks, slots=1024, max_chunks=12, seed=0, rate_unit=rate_unit, window=512)
    got = np.zeros(2)
    for window in range(16):
        for row in plan.window(window):
            amount = row.length if rate_unit == "tokens" else np.ones(len(row))
            got += np.bincount(row.task, amount, minlength=2)
    assert got[1] / got[0] == pytest.approx(3.0, rel=0.01)


def test_any_row_at_any_time():
    forwards, elsewhere = (Plan(MIXTURE, 1024, 12, seed=5, window=128) for _ in range(2))
    rows = [forwards.row(r) for r in range(400)]
    for r in (399, 3, 250, 0):
        np.testing.assert_array_equal(elsewhere.row(r).index, rows[r].index)
        np.testing.assert_array_equal(elsewhere.row(r).epoch, rows[r].epoch)


def test_resuming_skips_the_planning_of_what_came_before():
    whole, resumed = (Plan(MIXTURE, 1024, 12, seed=5, window=128) for _ in range(2))
    first, window = whole.locate(1000)
    resumed.resume_at(first, window)
    np.testing.assert_array_equal(resumed.row(1000).index, whole.row(1000).index)
    assert set(resumed._windows) <= {window, window + 1}
    np.testing.assert_array_equal(resumed.row(0).index, whole.row(0).index)


def test_another_seed_gives_another_order():
    one, other = Plan(MIXTURE, 1024, 12, seed=0), Plan(MIXTURE, 1024, 12, seed=1)
    assert not np.array_equal(one.row(0).index, other.row(0).index)


def test_packing_efficiency_of_the_varied_distribution():
    """Text lognormal (mean about 400), audio gamma of mean 10 s, codes or tower features."""
    rng = np.random.default_rng(0)
    text = np.clip(rng.lognormal(5.9, 0.45, 30_000), 20, 2500).astype(np.int32)
    seconds = np.clip(rng.gamma(2.0, 5.0, 30_000), 1, 60)
    none = np.zeros(30_000, np.int32)
    generate = TaskLengths("c2a", 1.0, text + (50 * seconds).astype(np.int32) + 14, none, none)
    chunks = np.ceil(seconds).astype(np.int32)
    caption = TaskLengths("a2c", 1.0, text + (13 * seconds).astype(np.int32) + 7, chunks, none)
    plan = Plan((generate, caption), slots=8192, max_chunks=128, seed=0)
    rows = [row for window in range(3) for row in plan.window(window)]
    assert sum(int(row.length.sum()) for row in rows) / (8192 * len(rows)) > 0.995


def test_short_examples_of_a_small_corpus_fill_rows_too():
    """As in the Debian corpus: 3,000 clips of 3 s with short captions. Windows of 4096 examples would fill 98.5 %."""
    rng = np.random.default_rng(0)
    text, seconds, none = rng.integers(25, 70, 3000), rng.uniform(0.3, 9.0, 3000), np.zeros(3000, np.int32)
    hears = TaskLengths(
        "a2c", 1.0, (text + 13 * seconds).astype(np.int32), np.ceil(seconds).astype(np.int32), none
    )
    says = TaskLengths("c2a", 1.0, (text + 50 * seconds).astype(np.int32), none, none)
    plan = Plan((hears, says), slots=8192, max_chunks=400, seed=0, rate_unit="tokens")
    rows = [row for window in range(3) for row in plan.window(window)]
    assert sum(int(row.length.sum()) for row in rows) / (8192 * len(rows)) > 0.995


def test_a_finite_plan_holds_everything_once_and_then_nothing():
    plan = FinitePlan(MIXTURE, 1024, 12, window=200)
    found = [(int(t), int(i)) for r in range(len(plan)) for t, i in
             zip(plan.row(r).task, plan.row(r).index, strict=True)]  # fmt: skip
    assert sorted(found) == [(t, i) for t, m in enumerate(MIXTURE) for i in range(len(m.length))]
    assert len(plan.row(len(plan))) == 0


def test_what_fits_no_row_is_left_out_and_counted():
    plan = Plan((task("a", 100, longest=2000),), slots=1024, max_chunks=12, seed=0)
    over = plan.tasks[0].length > 1024
    (excluded,) = plan.excluded
    assert (excluded.examples, excluded.task) == (int(over.sum()), "a")
    assert excluded.tokens == int(plan.tasks[0].length[over].sum())
    assert not np.isin(np.flatnonzero(over), plan.usable[0].records).any()
    assert len(plan.usable[0]) == 100 - over.sum()


def test_plans_that_cannot_be_made_say_why():
    with pytest.raises(PackPlanError, match="the mixture is empty"):
        Plan((), 1024, 12, seed=0)
    with pytest.raises(PackPlanError, match="no example of a fits a row of 16 slots"):
        Plan((task("a", 10),), 16, 12, seed=0)


def short_scenes(count: int) -> tuple[TaskLengths, ...]:
    """Scenes of 1 to 4 s with captions of about 60 tokens, where slots and chunks run out together."""
    rng = np.random.default_rng(1)
    seconds, text, none = rng.uniform(0.9, 4.5, count), rng.integers(45, 85, count), np.zeros(count, np.int32)
    chunks = np.ceil(seconds).astype(np.int32)
    return (
        TaskLengths("c2a", 1.0, (text + 50 * seconds + 14).astype(np.int32), none, none),
        TaskLengths("a2c", 1.0, (text + 13 * seconds + 7).astype(np.int32), chunks, none),
    )


def test_rows_fill_when_both_budgets_are_scarce():
    plan = Plan(short_scenes(2000), slots=1024, max_chunks=16, seed=0, rate_unit="tokens")
    rows = [row for window in range(3) for row in plan.window(window)]
    slots, chunks = sum(int(r.length.sum()) for r in rows), sum(int(r.chunks.sum()) for r in rows)
    # Seven examples a row and two binding budgets: 0.935 is what the heuristic reaches; it was 0.35 once, when a
    # row without chunks left could hide all others.
    fewest_rows = max(slots / 1024, chunks / 16)
    assert fewest_rows / len(rows) > 0.92


def test_windows_of_small_corpora_do_not_put_copies_into_a_row():
    plan = Plan(short_scenes(500), slots=1024, max_chunks=16, seed=0)
    assert 1000 < plan.window_size <= 3000, "up to three epochs, for 400 rows"
    rows = [row for window in range(8) for row in plan.window(window)]
    copies = [len(set(zip(r.task.tolist(), r.index.tolist(), strict=True))) < len(r) for r in rows]
    assert np.mean(copies) < 0.03
