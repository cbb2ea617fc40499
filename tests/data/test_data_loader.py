"""Batches from synthetic caches: packing changes nothing, any process split and any resume gives the same rows."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from synthetic_cache import VOCABULARY, example, write_cache, write_mixture

from bagpiper_jax import dialogue
from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import Batch, BatchShape, empty_batch
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.loader import Loader, LoaderConfig, ResumeError
from bagpiper_jax.data.planner import PackPlanError, Planned
from bagpiper_jax.data.rows import RowMaker
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.vocabulary import ASSISTANT, AUDIO, Vocabulary

SHAPE = BatchShape(rows=4, slots=256, chunks=8)
MIXTURE = {
    "caption_to_audio": (30, 1.0),
    "audio_to_caption": (40, 2.0),
    "text_only": (20, 0.5),
    "understanding": (15, 1.0),
    "generation": (10, 0.5),
}


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("mixture"), MIXTURE)


def make(lock, process_index: int = 0, process_count: int = 1, **settings) -> Loader:
    config = LoaderConfig(**{"seed": 3, "window": 64, **settings})
    return Loader(lock, SHAPE, VOCABULARY, config, process_index, process_count)


def equal(one: Batch, other: Batch) -> bool:
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(Batch)
    )


def concatenated(batches: list[Batch]) -> Batch:
    return Batch(*(np.concatenate([getattr(b, f.name) for b in batches]) for f in dataclasses.fields(Batch)))


def test_shapes_and_types_are_fixed(lock):
    batch = make(lock).batch(0)
    described = {f.name: (getattr(batch, f.name).dtype.name, getattr(batch, f.name).shape) for f in
                 dataclasses.fields(Batch)}  # fmt: skip
    assert described == {
        "tokens": ("int32", (4, 256, 8)),
        "loss_weights": ("float32", (4, 256, 8)),
        "segment_ids": ("int32", (4, 256)),
        "positions": ("int32", (4, 256)),
        "direction": ("int32", (4, 256)),
        "mel": ("float32", (4, 8, 100, 128)),
        "chunk_frames": ("int32", (4, 8)),
        "chunk_clip": ("int32", (4, 8)),
        "chunk_window": ("int32", (4, 8)),
        "audio_slot": ("int32", (4, 256)),
    }


def test_packed_equals_alone(lock):
    """Every document of a batch: tokens, weights, positions, and the features its audio slots point to."""
    loader = make(lock, cfg_dropout=0.0)
    seen = set()
    for step in range(4):
        batch = loader.batch(step)
        for b in range(SHAPE.rows):
            planned = loader.plan.row(step * SHAPE.rows + b)
            for segment, (task, index) in enumerate(zip(planned.task, planned.index, strict=True), 1):
                where = batch.segment_ids[b] == segment
                messages = loader.caches[task].read(int(index)).messages()
                alone = dialogue.render(messages, VOCABULARY)
                np.testing.assert_array_equal(batch.tokens[b][where], alone.tokens)
                np.testing.assert_array_equal(batch.loss_weights[b][where], alone.loss_weights)
                np.testing.assert_array_equal(batch.positions[b][where], np.arange(len(alone)))
                name = DIRECTIONS[batch.direction[b][where][0]]
                assert name == loader.task_names[task]
                check_audio(batch, b, np.flatnonzero(where)[0], alone)
                seen.add(name)
        padding = batch.segment_ids == 0
        assert not batch.tokens[padding].any() and not batch.loss_weights[padding].any()
        assert (batch.audio_slot[padding] == -1).all()
    assert seen == set(DIRECTIONS)


def check_audio(batch: Batch, row: int, first_slot: int, alone: dialogue.Rendered) -> None:
    """Slot → (chunk, offset) finds the very mel frames of the clip, in order, and nothing else has audio."""
    slots = batch.audio_slot[row, first_slot : first_slot + len(alone)]
    expected = np.full(len(alone), -1)
    for span in alone.audio:
        mel = log_mel(span.samples)
        here = slots[span.start : span.start + span.num_tokens]
        chunks = here // 13
        np.testing.assert_array_equal(here % 13, np.arange(span.num_tokens) % 13)
        found = [batch.mel[row, c, : batch.chunk_frames[row, c]] for c in np.unique(chunks)]
        np.testing.assert_array_equal(np.concatenate(found), mel)
        assert len(set(batch.chunk_clip[row, np.unique(chunks)])) == 1
        expected[span.start : span.start + span.num_tokens] = here
    np.testing.assert_array_equal(slots, expected)


@pytest.mark.parametrize(
    "window, expected", [(8, [1] * 8 + [2] * 2 + [3, 0]), (4, [1] * 4 + [2] * 4 + [3] * 2 + [4, 0])]
)
def test_windows_hold_at_most_so_many_chunks_of_one_clip(tmp_path, window, expected):
    wave = (0.1 * np.random.default_rng(0).normal(size=16000 * 9 + 4000)).astype(np.float32)
    messages = [("user", "audio", wave), ("user", "audio", wave[:16000]), ("assistant", "text", "two")]
    made = write_cache(tmp_path, [example(messages)], num_shards=1)
    shape = BatchShape(rows=1, slots=256, chunks=12)
    batch = empty_batch(1, shape, 8)
    length, chunks = made.index["length"], made.index["chunks"]
    zero = np.zeros(1, np.int64)
    planned = Planned(zero, zero, zero, zero, length.astype(np.int64), chunks.astype(np.int64))
    rows = RowMaker([made], ["t"], VOCABULARY, dialogue.RenderConfig(), 0, 0.0, window_chunks=window)
    rows.fill(batch, 0, planned)
    assert batch.chunk_window[0].tolist() == expected
    assert batch.chunk_clip[0].tolist() == [1] * 10 + [2] + [0]
    assert batch.chunk_frames[0].tolist() == [100] * 9 + [25, 100, 0]
    assert not batch.mel[0, 9, 25:].any() and not batch.mel[0, 11].any()


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_serves_the_same_rows(lock, processes):
    whole = make(lock)
    parts = [make(lock, process_index=p, process_count=processes) for p in range(processes)]
    for step in (0, 7):
        assert equal(whole.batch(step), concatenated([p.batch(step) for p in parts]))


def test_a_batch_is_a_function_of_its_step(lock):
    forwards, backwards = make(lock), make(lock)
    expected = [forwards.batch(s) for s in range(5)]
    for step in (4, 0, 3, 1, 2):
        assert equal(backwards.batch(step), expected[step])
    assert not equal(make(lock, seed=4).batch(0), expected[0])


def test_resume_gives_the_uninterrupted_batches(lock):
    first = make(lock)
    state = json.loads(json.dumps(first.state(40)))
    assert len(json.dumps(state)) < 1000
    resumed = make(lock, process_index=1, process_count=2)
    assert resumed.check(state) == 40
    expected = first.batch(40)
    half = resumed.batch(40)
    np.testing.assert_array_equal(half.tokens, expected.tokens[2:])
    np.testing.assert_array_equal(half.mel, expected.mel[2:])
    assert first.state(40) == resumed.state(40)


@pytest.mark.parametrize(
    "change", [{"seed": 5}, {"cfg_dropout": 0.5}, {"window": 32}, {"render": dialogue.RenderConfig("all")}]
)
def test_resume_refuses_changed_settings_by_name(lock, change):
    with pytest.raises(ResumeError, match=next(iter(change))):
        make(lock, **change).check(make(lock).state(3))


def test_resume_refuses_changed_caches_and_rates(tmp_path, lock):
    state = make(lock).state(3)
    rates = write_mixture(tmp_path / "rates", {**MIXTURE, "text_only": (20, 0.7)})
    with pytest.raises(ResumeError, match="data changed: rates"):
        make(rates).check(state)
    caches = write_mixture(tmp_path / "caches", {**MIXTURE, "text_only": (21, 0.5)})
    with pytest.raises(ResumeError, match="data changed: caches"):
        make(caches).check(state)


def test_prefetched_batches_are_the_same(lock):
    loader = make(lock)
    iterator = loader.iterate(start_step=2)
    for step in (2, 3, 4):
        assert equal(next(iterator), loader.batch(step))


def test_kept_features_change_nothing(lock):
    keeping, plain = make(lock, feature_cache_mb=1), make(lock)
    for step in range(6):
        assert equal(keeping.batch(step), plain.batch(step))
    assert keeping.rows._features


def test_validation_holds_each_example_once(lock):
    loader = make(lock, finite=True, cfg_dropout=0.0)
    batches = list(loader.iterate())
    assert len(batches) == loader.num_steps
    assert sum(b.segment_ids.max(axis=1).sum() for b in batches) == sum(n for n, _ in MIXTURE.values())
    seen = [
        (int(t), int(i))
        for r in range(loader.num_steps * SHAPE.rows)
        for t, i in zip(loader.plan.row(r).task, loader.plan.row(r).index, strict=True)
    ]
    assert len(set(seen)) == len(seen)
    assert batches[-1].tokens.shape == batches[0].tokens.shape
    beyond = loader.batch(loader.num_steps)
    assert not beyond.loss_weights.any() and not beyond.segment_ids.any()


def test_condition_dropout_keeps_only_generated_audio(lock):
    always, never = make(lock, cfg_dropout=1.0), make(lock, cfg_dropout=0.0)
    dropped, plain = always.batch(0), never.batch(0)
    generating = [DIRECTIONS.index("caption_to_audio"), DIRECTIONS.index("generation")]
    generates = np.isin(plain.direction, generating) & (plain.segment_ids > 0)
    np.testing.assert_array_equal(dropped.tokens[~generates], plain.tokens[~generates])
    for b in range(SHAPE.rows):
        for segment in np.unique(plain.segment_ids[b][generates[b]]):
            where = plain.segment_ids[b] == segment
            tokens, before = dropped.tokens[b][where], plain.tokens[b][where]
            kept = np.flatnonzero(tokens.any(axis=1))
            assert tuple(tokens[kept[0] : kept[0] + 2, 0]) == (ASSISTANT, AUDIO)
            np.testing.assert_array_equal(tokens[kept], before[kept])
            assert not dropped.loss_weights[b][where][: kept[0]].any()


def test_dropout_is_drawn_anew_each_epoch_at_its_rate(lock):
    loader = make(lock, cfg_dropout=0.3)
    task = loader.task_names.index("caption_to_audio")
    cache = loader.caches[task]
    drops = [
        [not loader.rows.example(task, e, i, int(cache.index["length"][i])).tokens[0, 0] for i in range(30)]
        for e in range(20)
    ]
    assert abs(np.mean(drops) - 0.3) < 0.06  # 600 draws: three standard deviations
    assert len({tuple(d) for d in drops}) > 15


def test_another_tokenizer_codec_or_size_is_refused(lock):
    with pytest.raises(CacheError, match="cached with tokenizer byte, this run uses qwen"):
        make(lock, tokenizer="qwen")
    with pytest.raises(CacheError, match="cached with codec codec-a, this run uses codec-b"):
        make(lock, codec="codec-b")
    with pytest.raises(CacheError, match="codebooks of 64 codes"):
        Loader(lock, SHAPE, Vocabulary(text_size=256, codebook_size=32))
    with pytest.raises(CacheError, match="no examples in split 'test'; cached splits: train"):
        make(lock, split="test")
    make(lock, tokenizer="byte", codec="codec-a")


def test_examples_longer_than_a_row_are_named_or_refused(lock):
    with pytest.raises(CacheError, match="exceed a row of 64 slots and 8 .* longest has .*max_over_long"):
        Loader(lock, BatchShape(4, 64, 8), VOCABULARY)
    with pytest.raises(PackPlanError, match="no example of"):
        Loader(lock, BatchShape(4, 8, 8), VOCABULARY, LoaderConfig(max_excluded=1.0))
    loader = Loader(lock, BatchShape(4, 64, 8), VOCABULARY, LoaderConfig(max_excluded=1.0))
    assert {e.task for e in loader.plan.excluded} >= {"generation"}
    loader.batch(0)


def test_serving_loads_no_tensorflow(lock):
    code = (
        "import sys; from bagpiper_jax.data.loader import Loader; from bagpiper_jax.batch import BatchShape\n"
        "from bagpiper_jax.vocabulary import Vocabulary\n"
        f"l = Loader({str(lock)!r}, BatchShape(4, 256, 8), Vocabulary(text_size=256, codebook_size=64))\n"
        "next(l.iterate()); bad = {'tensorflow', 'seqio'} & set(sys.modules); assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
