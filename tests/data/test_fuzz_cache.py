"""Damage to the files of a cache: refused by name before the run, or one empty slot and a counter while it serves."""

import dataclasses
import shutil

import numpy as np
import pytest
from fuzzing import damage, generator, pick
from synthetic_cache import VOCABULARY, dialogue_of, example, write_mixture_of

from bagpiper_jax.batch import Batch, BatchShape
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.planner import PackPlanError
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.outcomes import RecordError

SHAPE = BatchShape(2, 256, 8)
COUNT = 15


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(directory, batch of its first step, its records) of an undamaged cache."""
    root = tmp_path_factory.mktemp("whole") / "cache"
    rng = np.random.default_rng(1)
    examples = [example(dialogue_of(DIRECTIONS[n % 5], rng), f"clip-{n}") for n in range(COUNT)]
    lock = write_mixture_of(root, examples)
    cache = TaskCache(root / "task/train")
    return root, open_loader(lock).batch(0), [cache.read(n) for n in range(COUNT)]


def open_loader(lock) -> Loader:
    return Loader(lock, SHAPE, VOCABULARY, LoaderConfig(cfg_dropout=0.0, max_excluded=1.0))


def same_record(one, two) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(two, field.name))
        for field in dataclasses.fields(one)
    )


def emptied(expected: Batch, found: Batch) -> int:
    """How many segments of `found` are empty; every other must be the expected one. Raises AssertionError."""
    np.testing.assert_array_equal(found.segment_ids, expected.segment_ids)
    np.testing.assert_array_equal(found.positions, expected.positions)
    empty = 0
    for row in range(SHAPE.rows):
        for segment in range(1, int(expected.segment_ids[row].max()) + 1):
            here = expected.segment_ids[row] == segment
            if not found.tokens[row, here].any():
                assert not found.loss_weights[row, here].any() and (found.audio_slot[row, here] == -1).all()
                empty += 1
            else:
                np.testing.assert_array_equal(found.tokens[row, here], expected.tokens[row, here])
                np.testing.assert_array_equal(found.loss_weights[row, here], expected.loss_weights[row, here])
                np.testing.assert_array_equal(mels(found, row, here), mels(expected, row, here))
    return empty


def mels(batch: Batch, row: int, here) -> np.ndarray:
    """The features that a segment's slots listen to."""
    slots = batch.audio_slot[row, here]
    return batch.mel[row, np.unique(slots[slots >= 0] // 13)]


@pytest.mark.parametrize("family", ["core", "audio"])
def test_a_damaged_shard_costs_its_records_and_nothing_else(whole, tmp_path, family):
    root, expected, records = whole
    lost = 0
    for number in range(40):
        rng = generator(family, number)
        copy = tmp_path / f"{number}"
        shutil.copytree(root, copy)
        (shard,) = (copy / "task/train").glob(f"{family}.array_record*")
        data = bytearray(shard.read_bytes())
        used = np.flatnonzero(np.frombuffer(bytes(data), np.uint8))  # shards are padded with zeros
        for place in rng.choice(used, int(rng.integers(1, 4))):
            data[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(bytes(data))
        lost += check_served(copy, expected, records)
        shutil.rmtree(copy)
    assert lost > 20, "the damage hit nothing"


def check_served(copy, expected: Batch, records) -> int:
    """Each record is the original or a named error; a batch has an empty slot and a count for each of those."""
    cache, faulty = TaskCache(copy / "task/train"), set()
    for index, original in enumerate(records):
        try:
            record = cache.read(index)
            record.messages()
            assert same_record(record, original), index
        except RecordError as error:
            assert error.reason in ("corrupt_record", "corrupt_audio"), error
            faulty.add(index)
    loader = open_loader(copy / "synthetic.lock.json")
    batch = loader.batch(0)
    assert emptied(expected, batch) == len(loader.rows.damaged)
    return len(faulty)


def test_any_other_damaged_file_is_refused_or_changes_nothing(whole, tmp_path):
    """Manifest, lock, marker, index, cut or missing shards: the run does not start, or it is the same run."""
    root, expected, _ = whole
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    refused = 0
    for number in range(120):
        rng = generator("cache", number)
        copy = tmp_path / f"{number}"
        shutil.copytree(root, copy)
        victim = copy / pick(rng, files)
        kind = int(rng.integers(4))
        if kind == 0:
            victim.unlink()
        elif kind == 1:
            victim.write_bytes(victim.read_bytes()[: int(rng.integers(0, max(1, victim.stat().st_size)))])
        elif "array_record" in victim.name:
            continue
        else:
            victim.write_bytes(damage(victim.read_bytes(), rng))
        try:
            loader = open_loader(copy / "synthetic.lock.json")
            for cache in loader.caches:
                cache.check_files(contents=True)
        except (CacheError, PackPlanError) as error:
            assert str(error), (number, victim)
            refused += 1
            continue
        if victim.name != "synthetic.lock.json":  # who changes a lock asks for another run
            assert emptied(expected, loader.batch(0)) == 0, (number, victim)
        shutil.rmtree(copy)
    assert refused > 40


def test_an_index_that_lies_is_refused(whole, tmp_path):
    """Lengths decide every row, so a run does not start with one that is not the cache's."""
    root, _, _ = whole
    shutil.copytree(root, tmp_path / "lying")
    for victim in sorted((tmp_path / "lying/task/train").glob("*.npy")):
        original, column = victim.read_bytes(), np.load(victim)
        column[3] ^= 1
        np.save(victim, column)
        with pytest.raises(CacheError, match=f"{victim.name} is damaged: its hash differs"):
            open_loader(tmp_path / "lying/synthetic.lock.json")
        victim.write_bytes(original)
    open_loader(tmp_path / "lying/synthetic.lock.json")
