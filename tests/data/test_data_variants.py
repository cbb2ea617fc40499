"""Records with variants of different lengths: what was declared is what is planned, packed and served."""

import dataclasses

import numpy as np
import pytest
from synthetic_cache import LIMITS, VOCABULARY, example, write_cache, write_mixture_of

from bagpiper_jax import dialogue
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching import shards
from bagpiper_jax.data import records
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.records import Record
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.outcomes import RecordError

SHAPE = BatchShape(rows=2, slots=256, chunks=6)


def of_variants(*dialogues, name: str = "") -> dict:
    """Task features of one clip with these dialogues."""
    numbers = np.repeat(np.arange(len(dialogues)), [len(d) for d in dialogues])
    return example(sum(dialogues, []), name) | {"msg_variant": numbers.astype(np.int32)}


def clip(number: int) -> dict:
    """With a caption, without it, and, for every third clip, without the sound too; a clip alone has one variant."""
    rng = np.random.default_rng(number)
    heard = ("user", "audio", (0.1 * rng.normal(size=rng.integers(800, 20_000))).astype(np.float32))
    answer, caption = ("assistant", "text", f"answer {number}"), ("assistant", "text", "word " * (5 + number))
    found = [[heard, caption, answer], [heard, answer], [answer]]
    return of_variants(*found[: 3 if number % 3 == 0 else 2 if number % 3 == 1 else 1], name=f"clip-{number}")


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    return write_mixture_of(tmp_path_factory.mktemp("variants"), [clip(number) for number in range(20)])


def test_a_record_keeps_its_variants():
    record = Record.from_example(clip(3), "clip-3")
    records.validate(record, LIMITS.text_size, LIMITS.codebook_size, LIMITS.num_streams)
    again = records.decode(records.encode(record), record.audio)
    for field in dataclasses.fields(Record):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(record, field.name))
    assert again.variants == 3 and [len(again.messages(variant=v)) for v in range(3)] == [3, 2, 1]
    measure = records.measure(record)
    rendered = [dialogue.render(again.messages(variant=v), VOCABULARY) for v in range(3)]
    assert [length for length, _ in measure.variants] == [len(each) for each in rendered]
    assert [chunks for _, chunks in measure.variants] == [measure.chunks, measure.chunks, 0]
    assert (measure.length, measure.chunks) == measure.variants[0]


def test_a_record_without_a_second_variant_costs_nothing():
    one, two = (records.encode(Record.from_example(clip(number))) for number in (2, 1))
    assert (one[:4], two[:4]) == (b"BPR1", b"BPR2")


@pytest.mark.parametrize(
    "column, reason", [([0, 2, 2], "bad_variants"), ([1, 1, 1], "bad_variants"), ([0, 1, 0], "bad_variants")]
)
def test_variants_that_do_not_count_up_are_rejected(column, reason):
    given = clip(2) | {"msg_variant": np.asarray(column, np.int32)}
    with pytest.raises(RecordError) as error:
        shards.checked(given, "x", LIMITS)
    assert error.value.reason == reason


def test_every_variant_bears_loss_and_keeps_to_the_limits():
    asks, says = [("user", "text", "what?")], [("assistant", "text", "this")]
    with pytest.raises(RecordError, match="no_loss"):
        shards.checked(of_variants(asks + says, asks), "x", LIMITS)
    long = of_variants(says, [("assistant", "text", "x" * 300)])
    with pytest.raises(RecordError, match="too_long: 304 slots"):
        shards.checked(long, "x", dataclasses.replace(LIMITS, max_slots=300))


def test_shards_of_different_variants_join(tmp_path):
    """Shard 0 has records of one variant only."""
    plain = [example([("assistant", "text", f"plain {n}")]) for n in range(4)]
    mixed = [example for pair in zip(plain, [clip(3 * n) for n in range(4)], strict=True) for example in pair]
    cache = write_cache(tmp_path, mixed, num_shards=2)
    length, chunks = cache.lengths
    found = [records.measure(cache.read(i)).variants for i in range(8)]
    for index, variants in enumerate(found):
        assert [(a, b) for a, b in zip(length[index], chunks[index], strict=True) if a] == list(variants)
    means = [np.mean([length for length, _ in variants]) for variants in found]
    assert cache.mean_length == pytest.approx(np.mean(means))
    assert cache.largest == tuple(max(v[i] for each in found for v in each) for i in (0, 1))
    cache.check_files(contents=True)
    assert not list(tmp_path.glob("part-*"))


def test_each_epoch_serves_a_variant_that_the_plan_chose(lock):
    loader = Loader(lock, SHAPE, VOCABULARY, LoaderConfig(cfg_dropout=0.0, window=64))
    seen: dict[int, set[int]] = {}
    for step in range(30):
        batch = loader.batch(step)
        for b in range(SHAPE.rows):
            row = loader.plan.row(step * SHAPE.rows + b)
            columns = (row.index.tolist(), row.variant.tolist())
            for segment, (index, variant) in enumerate(zip(*columns, strict=True), 1):
                messages = loader.caches[0].read(index).messages(variant=variant)
                alone = dialogue.render(messages, VOCABULARY)
                here = batch.segment_ids[b] == segment
                np.testing.assert_array_equal(batch.tokens[b][here], alone.tokens)
                np.testing.assert_array_equal(batch.loss_weights[b][here], alone.loss_weights)
                assert (batch.audio_slot[b][here] >= 0).sum() == sum(span.num_tokens for span in alone.audio)
                seen.setdefault(index, set()).add(variant)
    assert all(seen[n] == set(range(loader.caches[0].read(n).variants)) for n in range(20))


def test_kept_features_are_those_of_the_variant(lock):
    keeping, plain = (
        Loader(lock, SHAPE, VOCABULARY, LoaderConfig(feature_cache_mb=mb, window=64)) for mb in (16, 0)
    )
    for step in range(12):
        one, other = keeping.batch(step), plain.batch(step)
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_validation_holds_each_record_once_in_one_variant(lock):
    loader = Loader(lock, SHAPE, VOCABULARY, LoaderConfig(finite=True, cfg_dropout=0.0))
    batches = list(loader.iterate())
    assert sum(int(batch.segment_ids.max(axis=1).sum()) for batch in batches) == 20
    assert not loader.rows.damaged


def test_inspection_shows_every_variant(lock, capsys):
    assert inspect_data.main([f"--lock={lock}", "--task=task", "--index=3"]) == 0
    said = capsys.readouterr().out
    assert said.count("variant ") == 3 and "variant 3 of 3" in said and said.count("answer 3") == 3
