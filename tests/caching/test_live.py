"""A task tried without a cache: the same records and rows as with one, and rejects told at once."""

import pytest
from data_job import checksums
from task_helpers import LAYOUT, cache_mixture, caches, config
from test_cache_job import write_clips

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching import live
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.data.loader import Loader

SHAPE = BatchShape(rows=2, slots=256, chunks=8)


def test_live_rows_are_those_of_the_cache(tmp_path):
    write_clips(tmp_path, 12)
    settings = config(tmp_path, splits=("train",), shard_inputs=1000)
    mixture = live.open_live(settings, "user_pretraining", examples=12)
    assert not (tmp_path / "cache").exists(), "nothing is written"
    loader, lock = Loader(mixture, SHAPE, LAYOUT), cache_mixture(settings)
    cached = Loader(lock, SHAPE, LAYOUT)
    for step in (0, 5):
        assert checksums(loader.batch(step)) == checksums(cached.batch(step))
    task = dict(zip(mixture.names, mixture.caches, strict=True))["user_audio_to_caption"]
    assert task.counts == {"ok": 11, "rejected audio_missing": 1}
    assert task.counts == caches(lock)[task.name].manifest["counts"]
    (reject,) = task.rejects
    assert reject.id == "c3" and reject.source["audio"] == "audio/absent.flac"
    told = "\n".join(live.describe(mixture))
    assert "user_audio_to_caption: 11 ok, 1 rejected audio_missing" in told and "c3: rejected" in told


def test_a_task_that_gives_nothing_says_why(tmp_path):
    write_clips(tmp_path, 5)
    for path in (tmp_path / "user" / "audio").iterdir():
        path.unlink()
    with pytest.raises(
        ExportError, match="no clip of user_audio_to_caption became an example: .*c0: .*audio_missing"
    ):
        live.open_live(config(tmp_path), "user_pretraining", examples=4)
