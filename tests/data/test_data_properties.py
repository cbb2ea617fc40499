"""Properties of plan, positions and packing that hold for whatever hypothesis comes up with."""

import collections
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_cache import VOCABULARY, example, write_mixture_of

from bagpiper_jax import dialogue
from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.lengths import TaskLengths
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.planner import FinitePlan, Plan

SLOTS, CHUNKS = 256, 6
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

tasks = st.lists(
    st.tuples(
        st.floats(0.05, 20.0),
        st.lists(st.tuples(st.integers(1, SLOTS), st.integers(0, CHUNKS)), min_size=1, max_size=60),
    ),
    min_size=1,
    max_size=5,
)


def lengths(found) -> list[TaskLengths]:
    made = []
    for number, (rate, records) in enumerate(found):
        length, chunks = np.asarray(records, np.int32).T
        made.append(TaskLengths(f"task{number}", rate, length, chunks, np.zeros_like(length)))
    return made


def examples_of(rows) -> list[collections.Counter]:
    """Record → how often, per task."""
    counts = collections.defaultdict(collections.Counter)
    for row in rows:
        for task, index in zip(row.task.tolist(), row.index.tolist(), strict=True):
            counts[task][index] += 1
    return counts


@QUICK
@given(tasks, st.integers(0, 2**31), st.sampled_from(["examples", "tokens"]), st.integers(1, 6))
def test_whole_windows_take_each_example_floor_or_ceil_times(found, seed, unit, windows):
    plan = Plan(lengths(found), SLOTS, CHUNKS, seed, unit, window=128)
    rows = [row for window in range(windows) for row in plan.window(window)]
    assert all(0 < row.length.sum() <= SLOTS and row.chunks.sum() <= CHUNKS for row in rows)
    counts = examples_of(rows)
    for number, task in enumerate(plan.tasks):
        taken = plan.consumed(windows)[number]
        times = [counts[number][index] for index in range(len(task))]
        assert sum(times) == taken
        assert {t - taken // len(task) for t in times} <= {0, 1}


@QUICK
@given(tasks, st.integers(0, 2**31), st.integers(0, 400), st.integers(0, 400))
def test_a_plan_resumed_anywhere_gives_the_same_row(found, seed, at, row):
    whole, resumed = (Plan(lengths(found), SLOTS, CHUNKS, seed, window=64) for _ in range(2))
    resumed.resume_at(*whole.locate(at))
    for each in (at, row, at + 7):
        expected, got = whole.row(each), resumed.row(each)
        for column in ("task", "epoch", "index", "variant", "length", "chunks"):
            np.testing.assert_array_equal(getattr(got, column), getattr(expected, column))


@QUICK
@given(tasks)
def test_a_finite_plan_takes_everything_once(found):
    plan = FinitePlan(lengths(found), SLOTS, CHUNKS, window=32)
    counts = examples_of(plan.row(row) for row in range(len(plan)))
    assert {t: dict(c) for t, c in counts.items()} == {
        t: dict.fromkeys(range(len(task)), 1) for t, task in enumerate(plan.tasks)
    }


variants = st.lists(st.lists(st.integers(1, SLOTS), min_size=1, max_size=4), min_size=1, max_size=30)


@QUICK
@given(variants, st.integers(0, 2**31))
def test_variants_are_drawn_among_those_a_record_has(found, seed):
    length = np.zeros((len(found), 4), np.int32)
    for record, choices in enumerate(found):
        length[record, : len(choices)] = choices
    task = TaskLengths("task", 1.0, length, np.zeros_like(length), np.zeros(len(found), int))
    plan, again = (Plan([task], SLOTS, CHUNKS, seed, window=64) for _ in range(2))
    for row, same in zip(plan.window(0), again.window(0), strict=True):
        np.testing.assert_array_equal(row.variant, same.variant)
        for index, variant, slots in zip(row.index, row.variant, row.length, strict=True):
            assert slots == found[index][variant]


def test_variants_come_equally_often_and_anew_each_epoch():
    length = np.full((500, 3), 10)
    task = TaskLengths("task", 1.0, length, np.zeros_like(length), np.zeros(500, int))
    plan = Plan([task], SLOTS, CHUNKS, seed=0, window=500)
    windows = -(-4 * 500 // plan.window_size)
    drawn = np.zeros((windows * plan.window_size // 500 + 1, 500), int)
    for window in range(windows):
        for row in plan.window(window):
            drawn[row.epoch, row.index] = row.variant
    drawn = drawn[:4]
    assert np.abs(np.bincount(drawn.ravel()) / 2000 - 1 / 3).max() < 0.04  # four standard deviations
    assert (drawn[0] != drawn[1]).mean() > 0.5


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """Dialogues with up to three clips each, 800 samples to 2.6 s, text before, between and behind them."""
    rng, made = np.random.default_rng(0), []
    for number in range(24):
        turns = []
        for _ in range(rng.integers(1, 4)):
            wave = 0.1 * rng.normal(size=rng.integers(800, 42_000))
            turns += [
                ("user", "audio", wave.astype(np.float32)),
                ("user", "text", "x" * int(rng.integers(1, 9))),
            ]
        codes = rng.integers(0, 64, (rng.integers(1, 20), 8)).astype(np.int32)
        turns += [("assistant", "text", "y" * int(rng.integers(1, 30))), ("assistant", "audio", codes)]
        made.append(example(turns, f"e{number}"))
    lock = write_mixture_of(tmp_path_factory.mktemp("clips"), made)
    return Loader(lock, BatchShape(2, 512, 24), VOCABULARY, LoaderConfig(cfg_dropout=0.0, window=64))


@QUICK
@given(st.integers(0, 5000), st.integers(1, 9))
def test_positions_survive_json_and_other_rows_per_step(loader, step, rows):
    state = json.loads(json.dumps(loader.state(step)))
    assert len(json.dumps(state)) < 1000
    other = Loader(
        loader._mixture, BatchShape(rows, 512, 24), VOCABULARY, LoaderConfig(cfg_dropout=0.0, window=64)
    )
    assert other.check(state) == step
    assert other.state(step) == state
    assert other.first_row(step + 1) == loader.first_row(step) + rows


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 300))
def test_packing_moves_every_clip_to_where_its_slots_are(loader, step):
    """Unpacked from the batch, each example has the tokens, weights and mel frames that it has alone."""
    batch = loader.batch(step)
    for b in range(2):
        planned, clips = loader.plan.row(loader.first_row(step) + b), 0
        for segment, (task, index) in enumerate(zip(planned.task, planned.index, strict=True), 1):
            alone = dialogue.render(loader.caches[task].read(int(index)).messages(), VOCABULARY)
            here = np.flatnonzero(batch.segment_ids[b] == segment)
            assert len(here) == len(alone) and here[-1] - here[0] + 1 == len(here)
            np.testing.assert_array_equal(batch.tokens[b, here], alone.tokens)
            np.testing.assert_array_equal(batch.loss_weights[b, here], alone.loss_weights)
            listening = np.full(len(alone), -1)
            for span in alone.audio:
                clips += 1
                chunks = np.flatnonzero(batch.chunk_clip[b] == clips)
                frames = [batch.mel[b, c, : batch.chunk_frames[b, c]] for c in chunks]
                np.testing.assert_array_equal(np.concatenate(frames), log_mel(span.samples))
                slots = chunks[0] * 13 + np.arange(span.num_tokens)
                listening[span.start : span.start + span.num_tokens] = slots
            np.testing.assert_array_equal(batch.audio_slot[b, here], listening)
        assert batch.chunk_clip[b].max() == clips
