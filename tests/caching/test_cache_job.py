"""The cache job as users run it: gin files, one-line errors, and kill -9 in the middle of a real mixture."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from places import REPOSITORY
from task_helpers import caches, config

from bagpiper_jax import audio, configuration
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.errors import Explained
from bagpiper_jax.manifest import Clip, read_at, read_manifest, read_placed, write_manifest


def arguments(root: Path, cache: Path, **fields) -> list[str]:
    settings = {
        "mixtures": "('user_pretraining',)",
        "rates": "{'user_caption_to_audio': 0.0}",
        "splits": "('train',)",
        "data_root": str(root),
        "cache_dir": str(cache),
        "shard_inputs": "40",
        **fields,
    }
    return [f"--gin.CacheConfig.{name}={value}" for name, value in settings.items()]


@pytest.mark.parametrize(
    "corpus, pretraining",
    [
        ("embedded", "embedded_pretraining_with_reading"),
        ("debian", "debian_pretraining_with_reading"),
        ("user", "user_pretraining"),
    ],
)
def test_gin_files_build(corpus, pretraining):
    built = configuration.build(CacheConfig, [f"gin/mixtures/{corpus}.gin"])
    assert built.mixtures == (pretraining, f"{corpus}_sft")
    assert built.rate_unit == "tokens" and set(built.splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mixtures": "('user_pretrainin',)"}, "did you mean user_pretraining"),
        ({"tokenizer": "nowhere.json"}, "'nowhere.json' not found"),
        ({"codec": "nowhere.safetensors"}, "nowhere.safetensors is not a codec file"),
        ({}, "manifest.jsonl does not exist; build the corpus first"),
    ],
)
def test_faults_end_the_job_with_one_line(tmp_path, fields, message):
    from bagpiper_jax.jobs import cache_tasks

    with pytest.raises(Explained) as ended:
        cache_tasks.main(arguments(tmp_path, tmp_path / "cache", **fields))
    assert message in str(ended.value)


def digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def write_clips(root: Path, count: int) -> None:
    directory, rng = root / "user", np.random.default_rng(0)
    (directory / "audio").mkdir(parents=True)
    clips = []
    for i in range(count):
        path = f"audio/{i}.flac"
        audio.write(directory / path, (0.1 * rng.normal(size=20_000)).astype(np.float32))
        clips.append(Clip(f"c{i}", "train", "sound", path, 1.25, caption=f"Noise number {i}."))
    clips[3] = dataclasses.replace(clips[3], audio="audio/absent.flac")
    write_manifest(directory, clips)


def test_machines_write_their_parts_and_one_joins_them(tmp_path):
    """Parts in any order, one of them twice, give the cache that one machine makes."""
    write_clips(tmp_path, 23)
    settings = {"shard_inputs": 4, "max_reject_frac": 0.5, "splits": ("train",)}
    for shard in ("2/3", "0/3", "0/3"):
        assert (
            cache_mixtures(config(tmp_path, cache_dir=str(tmp_path / "parts"), shard=shard, **settings)) == []
        )
    assert not list((tmp_path / "parts").rglob("COMPLETE")), "a third is missing"
    assert len(list((tmp_path / "parts").rglob("part-*.json"))) == 2 * 4  # shards 0, 2, 3 and 5 of two tasks
    (lock,) = cache_mixtures(config(tmp_path, cache_dir=str(tmp_path / "parts"), **settings))
    assert lock.name == "user_pretraining.lock.json"
    cache_mixtures(config(tmp_path, cache_dir=str(tmp_path / "whole"), **settings))
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_rejects_carry_the_record_they_were(tmp_path):
    write_clips(tmp_path, 8)
    (lock,) = cache_mixtures(config(tmp_path, max_reject_frac=0.5))
    (reject,) = caches(lock)["user_audio_to_caption"].rejects()
    assert (reject["id"], reject["reason"]) == ("c3", "audio_missing")
    assert (
        reject["record"]["audio"] == "audio/absent.flac" and reject["record"]["caption"] == "Noise number 3."
    )


def test_a_source_that_fails_ends_the_job_and_loses_nothing(tmp_path, monkeypatch):
    from tasks.sources import ManifestSource

    write_clips(tmp_path, 8)
    read = ManifestSource.read_shard

    def failing(source, split, shard, shards):
        yield from list(read(source, split, shard, shards))[:1]
        raise OSError("the disk is gone")

    settings = config(tmp_path, shard_inputs=4, rates={"user_caption_to_audio": 0.0, "user_text_only": 0.0})
    with monkeypatch.context() as patched:
        patched.setattr(ManifestSource, "read_shard", failing)
        with pytest.raises(
            ExportError, match="user_audio_to_caption failed in split train: OSError: the disk is"
        ):
            cache_mixtures(settings)
    assert not list((tmp_path / "cache").rglob("part-*"))
    (lock,) = cache_mixtures(settings)
    assert len(caches(lock)["user_audio_to_caption"]) == 7


def test_clips_are_read_where_their_lines_stand(tmp_path):
    said = ["plain", "é, 日本, 😀", "two\nlines"]
    clips = [Clip(f"c{i}", "train", "text", text=text * 3000) for i, text in enumerate(said)]
    write_manifest(tmp_path, clips)
    places = [place for place, _ in read_placed(tmp_path)]
    assert list(read_at(tmp_path, places[::-1])) == clips[::-1] == [*read_manifest(tmp_path)][::-1]


def test_an_author_may_change_its_clip_and_nobody_else_sees_it(tmp_path):
    import seqio

    from bagpiper_jax.caching.task_shards import configure_tasks
    from tasks.mixtures import add_task
    from tasks.preprocessors import encoder_of

    def greedy(clip, rng) -> list:
        clip.dialogue.append(["assistant", "text", "more"])
        return clip.dialogue

    configure_tasks(config(tmp_path))
    write_manifest(tmp_path / "user", [Clip("c", "train", "text", dialogue=[["assistant", "text", "one"]])])
    add_task("user_greedy", "user", greedy)
    try:
        task = seqio.get_mixture_or_task("user_greedy")
        encode = encoder_of(task)
        for _ in range(2):
            (example,) = task.source.read_shard("train", 0, 1)
            assert len(encode(example)["msg_role"]) == 2
    finally:
        seqio.TaskRegistry.remove("user_greedy")


@pytest.mark.parametrize("shard", ["3/3", "-1/2", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(tmp_path, shard):
    with pytest.raises(ExportError, match=f"must be 'i/n'.*{shard}"):
        cache_mixtures(config(tmp_path, shard=shard))


@pytest.mark.slow
def test_a_pool_of_processes_makes_the_same_cache(tmp_path):
    write_clips(tmp_path, 60)
    command = [sys.executable, "-m", "bagpiper_jax", "cache_tasks"]
    for name, workers in (("one", 1), ("pool", 2)):
        flags = arguments(
            tmp_path, tmp_path / name, workers=str(workers), shard_inputs="10", max_reject_frac="0.5"
        )
        subprocess.run([*command, *flags], cwd=REPOSITORY, check=True)
    assert digest(tmp_path / "pool") == digest(tmp_path / "one")


@pytest.mark.slow
def test_a_killed_job_continues_to_the_same_cache(tmp_path):
    write_clips(tmp_path, 200)
    command = [sys.executable, "-m", "bagpiper_jax", "cache_tasks"]

    killed = tmp_path / "killed"
    for shards_before_the_kill in (1, 3):
        process = subprocess.Popen([*command, *arguments(tmp_path, killed)], cwd=REPOSITORY)
        while len(list(killed.rglob("part-*.json"))) < shards_before_the_kill and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not list(killed.glob("*.lock.json"))
    subprocess.run([*command, *arguments(tmp_path, killed)], cwd=REPOSITORY, check=True)
    subprocess.run([*command, *arguments(tmp_path, tmp_path / "whole")], cwd=REPOSITORY, check=True)
    assert digest(killed) == digest(tmp_path / "whole")
