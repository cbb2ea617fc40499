"""A record that is damaged in a finished cache: empty slots, one line of the log, a count in the metrics, no end."""

import json

import numpy as np
import pytest
from synthetic_cache import VOCABULARY, damage, write_mixture
from training_helpers import TINY_FLAGS

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.dialogue import CORRUPT
from bagpiper_jax.jobs import train as job
from bagpiper_jax.outcomes import RecordError

SHAPE = BatchShape(rows=8, slots=256, chunks=8)


def test_it_costs_its_slots_and_a_counter(tmp_path, caplog):
    lock = write_mixture(tmp_path, {"text_only": (12, 1.0)})
    settings = {"finite": True, "cfg_dropout": 0.0}
    intact = Loader(lock, BatchShape(1, 512, 1), VOCABULARY, LoaderConfig(**settings)).batch(0)
    loader = Loader(lock, BatchShape(1, 512, 1), VOCABULARY, LoaderConfig(**settings))
    victim = damage(loader.caches[0], 7)
    loader = Loader(lock, BatchShape(1, 512, 1), VOCABULARY, LoaderConfig(**settings))
    batch = loader.batch(0)
    changed = np.any(batch.tokens != intact.tokens, axis=(0, 2))
    segment = int(intact.segment_ids[0][changed].max())
    assert set(intact.segment_ids[0][changed]) == {segment}
    empty = intact.segment_ids == segment
    assert not batch.loss_weights[empty].any() and not batch.tokens[empty].any()
    np.testing.assert_array_equal(batch.direction == CORRUPT, empty)
    np.testing.assert_array_equal(batch.segment_ids, intact.segment_ids)
    assert (intact.corrupt_examples, batch.corrupt_examples) == (0, 1)
    loader.batch(0)
    assert list(loader.rows.damaged) == ["text_only:7"]
    assert caplog.text.count("text_only:7") == 1, "named once, however often it is met"
    assert f"{victim} record 1: " in caplog.text, "the file, and which of its records"


def test_the_run_goes_on_and_its_metrics_count_over_restarts(tmp_path, caplog):
    lock = write_mixture(tmp_path, {"audio_to_caption": (9, 1.0)})
    for index in (2, 5):
        damage(Loader(lock, SHAPE, VOCABULARY).caches[0], index)
    loader, output = Loader(lock, SHAPE, VOCABULARY), tmp_path / "run"
    counts = np.cumsum([loader.batch(step).corrupt_examples for step in range(3)])
    assert counts[0] > 2, "met in several rows"
    flags = [*TINY_FLAGS, f"--gin.TrainConfig.output={output}", f"--gin.TrainConfig.train_lock={lock}"]
    flags += ["--gin.TrainConfig.log_every=1"]
    for steps in (1, 3):
        assert job.main([*flags, f"--gin.TrainConfig.steps={steps}"]) == 0
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["corrupt_examples"] for line in lines] == counts.tolist()
    assert b"train/corrupt_examples" in next((output / "tensorboard").iterdir()).read_bytes()


def test_serving_stops_above_the_limit_of_damaged_records(tmp_path):
    lock = write_mixture(tmp_path, {"text_only": (2, 1.0)})
    loader = Loader(lock, BatchShape(1, 512, 1), VOCABULARY)
    loader.rows._max_corrupt = 1
    for _ in range(3):  # one record, met in three epochs
        assert loader.rows.example(0, 0, 0, length=5) is None
    with pytest.raises(RecordError, match="2 damaged records; the last, text_only:1"):
        loader.rows.example(0, 0, 1, length=5)


def test_a_truncated_shard_fails_at_launch(tmp_path):
    lock = write_mixture(tmp_path, {"text_only": (12, 1.0)})
    victim = next((tmp_path / "text_only").rglob("core.*-00000-*"))
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(CacheError, match=f"{victim.name}.*run cache_tasks again"):
        Loader(lock, SHAPE, VOCABULARY)
