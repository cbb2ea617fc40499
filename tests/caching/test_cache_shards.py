"""Shards: counts sum to the input, faults are named, and a killed job finishes to the very same bytes."""

import dataclasses
import hashlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import HELPERS, REPOSITORY
from synthetic_cache import LIMITS, VOCABULARY, dialogue_of, example, write_cache, write_mixture

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching import shards
from bagpiper_jax.caching.joining import finish
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.data import cache
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.lock import Lock, read_lock
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.outcomes import RecordError, Rejected, Skipped, encode


def examples(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    return [example(dialogue_of(DIRECTIONS[i % 5], rng), f"clip{i}") for i in range(count)]


def write_missing(directory: Path, items, limits=LIMITS) -> None:
    """Four shards, of which `items(shard)` are the examples; those that are whole stay."""
    directory.mkdir(exist_ok=True)
    for shard in shards.missing(directory, 4):
        shards.write_shard(items(shard), 10, limits, directory, shard, 4)


def digest(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(directory.iterdir())}


# Run as a program: writes shards of examples(40) and is killed by itself after a number of examples.
KILLED = """
import os, signal, sys
from pathlib import Path
from test_cache_shards import *
directory, kill_after = Path(sys.argv[1]), int(sys.argv[2])
served = 0
def slowly(items):
    global served
    for item in items:
        if served == kill_after: os.kill(os.getpid(), signal.SIGKILL)
        served += 1
        yield item
everything = examples(40)
write_missing(directory, lambda s: slowly(everything[s::4]))
if kill_after == 41: os.kill(os.getpid(), signal.SIGKILL)
finish(directory, {"seed": 0}, 4, 1.0)
"""


ODD = {
    "a number for codes": {"codes": 7}, "ragged codes": {"codes": [[1], [1, 2]]}, "objects": {"text": [object()]},
    "a table of two dimensions": {"msg_role": np.zeros((2, 2), np.int32)}, "a number for roles": {"msg_role": 3},
    "a null": {"msg_weight": None}, "short columns": {"msg_len": np.zeros(0, np.int32)}, "text": {"msg_start": "abc"},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_example_of_any_form_costs_itself_alone(tmp_path, name):
    made = examples(3)
    made[1] = made[1] | ODD[name]
    shards.write_shard(iter(made), 3, LIMITS, tmp_path, 0, 1)
    manifest = finish(tmp_path, {}, 1, 1.0)
    assert manifest["counts"]["ok"] == 2 and sum(manifest["counts"].values()) == 3
    (reject,) = TaskCache(tmp_path).rejects()
    assert reject["id"] == "clip1" and reject["reason"] and reject["detail"]


@pytest.mark.parametrize("name", ["part-00002.json", "part-00002.npy"])
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_a_damaged_part_is_named_and_its_shard_alone_is_made_anew(tmp_path, name, data):
    everything = examples(40)
    write_missing(tmp_path / "whole", lambda s: iter(everything[s::4]))
    write_missing(tmp_path / "cut", lambda s: iter(everything[s::4]))
    (tmp_path / "cut" / name).write_bytes(data)
    with pytest.raises(ExportError, match="part-00002.json is damaged.*run cache_tasks again"):
        finish(tmp_path / "cut", {}, 4, 1.0)
    (tmp_path / "cut/part-00002.json").unlink()
    assert shards.missing(tmp_path / "cut", 4) == [2]
    write_missing(tmp_path / "cut", lambda s: iter(everything[s::4]))
    finish(tmp_path / "cut", {}, 4, 1.0)
    finish(tmp_path / "whole", {}, 4, 1.0)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


def test_a_failed_shard_leaves_no_file(tmp_path):
    def interrupted():
        yield from examples(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shard(interrupted(), 3, LIMITS, tmp_path, 0, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [30_000, 150])
def test_a_full_disk_is_named_and_the_same_command_finishes(tmp_path, limit):
    """30 kB are refused while a shard is written, 150 bytes already when its first block or index is."""
    everything = examples(40)

    def export(directory):
        write_missing(directory, lambda s: iter(everything[s::4]))
        finish(directory, {"seed": 0}, 4, 1.0)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(
            ExportError, match=f"cannot write the cache {tmp_path}/full: .*run cache_tasks again"
        ):
            export(tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(CacheError, match="no finished cache"):
        TaskCache(tmp_path / "full")
    export(tmp_path / "full")
    export(tmp_path / "whole")
    assert digest(tmp_path / "full") == digest(tmp_path / "whole")


@pytest.mark.parametrize("kills", [[3], [10, 7], [25, 0, 12], [41]])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, kills):
    """[25, 0, 12]: after two shards and a half; then at once; then within the last two shards."""
    for kill_after in [*kills, 10_000]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "resumed"), str(kill_after)]
        code = subprocess.run(command, cwd=Path(__file__).parent, env=_environment()).returncode
        assert code == (-9 if kill_after < 10_000 else 0)
    everything = examples(40)
    whole = tmp_path / "whole"
    write_missing(whole, lambda s: iter(everything[s::4]))
    finish(whole, {"seed": 0}, 4, 1.0)
    assert digest(tmp_path / "resumed") == digest(whole)


def _environment() -> dict:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HELPERS, REPOSITORY)))}


def test_reading_back_and_locating(tmp_path):
    everything = examples(11)
    made = write_cache(tmp_path, everything, num_shards=3)
    assert len(made) == 11
    order = [i for shard in range(3) for i in range(shard, 11, 3)]
    assert [made.read(i).id for i in range(11)] == [f"clip{i}" for i in order]
    assert [made.locate(i) for i in (0, 3, 4, 10)] == [(0, 0), (0, 3), (1, 0), (2, 2)]
    for i in range(11):
        assert made.read(i).audio == everything[order[i]]["audio"]


def test_counts_sum_to_the_input_and_rejects_are_named(tmp_path):
    good, long, silent = examples(3)
    long = example([("assistant", "text", "x" * 9000)], "long")
    silent = example([("user", "text", "hm")], "silent")
    alien = {**good, "msg_role": np.asarray([5, 77]), "id": b"alien"}
    skipped = {**good, "outcome": encode(Skipped("no_audio")), "id": b"skipped"}
    blank = {**good, "outcome": encode(Rejected("empty_caption", "blank é")), "id": b"blank"}
    items = iter([good, long, silent, alien, skipped, blank])
    shards.write_shard(items, 7, LIMITS, tmp_path, 0, 1)  # 7 inputs: a filter took one
    manifest = finish(tmp_path, {}, 1, max_reject_frac=1.0)
    assert manifest["counts"] == {
        "ok": 1,
        "rejected empty_caption": 1,
        "rejected no_loss": 1,
        "rejected too_long": 1,
        "rejected unknown_role": 1,
        "skipped filtered": 1,
        "skipped no_audio": 1,
    }
    assert sum(manifest["counts"].values()) == manifest["inputs"] == 7
    rejects = {r["id"]: r for r in TaskCache(tmp_path).rejects()}
    assert {name: r["reason"] for name, r in rejects.items()} == {
        "long": "too_long",
        "silent": "no_loss",
        "alien": "unknown_role",
        "blank": "empty_caption",
    }
    assert "9004 slots, the limit is 8192" in rejects["long"]["detail"]


class Failing:
    """An iterator as tf.data's: `next` raises for some examples and goes on with the following."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        if isinstance(item, Exception):
            raise item
        return item


def test_an_exception_costs_one_example(tmp_path):
    one, two = examples(2)
    items = Failing([one, RuntimeError("node x: ValueError: bad pitch\n at line 3"), two])
    shards.write_shard(items, 3, LIMITS, tmp_path, 0, 1)
    manifest = finish(tmp_path, {}, 1, max_reject_frac=1.0)
    assert manifest["counts"] == {"ok": 2, "rejected error_ValueError": 1}
    (reject,) = TaskCache(tmp_path).rejects()
    assert "bad pitch" in reject["detail"]


def test_nothing_but_exceptions_stops_the_job(tmp_path):
    with pytest.raises(ExportError, match="100 examples in a row failed.*KeyError: 'pitch'"):
        items = Failing([RuntimeError("KeyError: 'pitch'")] * 200)
        shards.write_shard(items, 200, LIMITS, tmp_path, 0, 1)


def test_too_many_rejects_refuse_the_cache(tmp_path):
    bad = example([("user", "text", "hm")], "silent")
    shards.write_shard(iter([*examples(3), bad]), 4, LIMITS, tmp_path, 0, 1)
    with pytest.raises(ExportError, match=r"1 of 4 clips rejected \(25.0%.*no_loss.*rejects.jsonl"):
        finish(tmp_path, {}, 1, max_reject_frac=0.2)
    with pytest.raises(CacheError, match="no finished cache"):
        TaskCache(tmp_path)
    assert json.loads((tmp_path / cache.REJECTS).read_text())["id"] == "silent"
    finish(tmp_path, {}, 1, max_reject_frac=0.3)
    assert len(TaskCache(tmp_path)) == 3


def test_damage_is_found_by_size_or_by_contents(tmp_path):
    made = write_cache(tmp_path, examples(4), num_shards=1)
    made.check_files(contents=True)
    shard = tmp_path / cache.shard_name("audio", 0, 1)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + b"!" + whole[101:])
    made.check_files()
    with pytest.raises(CacheError, match=f"{shard.name} is damaged"):
        made.check_files(contents=True)
    shard.unlink()
    with pytest.raises(CacheError, match=f"{shard.name} is missing; run cache_tasks again"):
        made.check_files()


def test_caches_without_audio_have_no_audio_family(tmp_path):
    text = [example([("assistant", "text", "hi")], f"t{i}") for i in range(3)]
    made = write_cache(tmp_path, text, num_shards=1)
    assert made.manifest["families"] == ["core"] and not list(tmp_path.glob("audio*"))
    assert made.read(2).audio == b""


def speaking(rng, i: int) -> dict:
    return example(dialogue_of("caption_to_audio", rng), f"speaks{i}")


def test_audio_stands_in_files_of_its_own_and_only_where_there_is_some(tmp_path):
    """Shard 0 has none, in shard 1 it begins late. Who needs no audio reads none, and would not miss the files."""
    rng = np.random.default_rng(3)
    heard = example(dialogue_of("audio_to_caption", rng), "heard")
    in_shards = [[speaking(rng, 0), speaking(rng, 1)], [speaking(rng, 2), heard, speaking(rng, 3)]]
    for shard, mine in enumerate(in_shards):
        shards.write_shard(iter(mine), len(mine), LIMITS, tmp_path, shard, 2)
    finish(tmp_path, {}, 2, 1.0)
    made = TaskCache(tmp_path)
    files = [sorted(shard["files"]) for shard in made.manifest["shards"]]
    assert files == [["core"], ["audio", "core"]] and made.manifest["families"] == ["core", "audio"]
    assert [p.name for p in tmp_path.glob("audio*")] == [cache.shard_name("audio", 1, 2)]
    whole = [made.read(i) for i in range(5)]
    assert [bool(record.audio) for record in whole] == [False, False, False, True, False]
    assert whole[3].audio == heard["audio"]

    (audio,) = tmp_path.glob("audio*")
    audio.unlink()
    alone = TaskCache(tmp_path)
    assert [alone.read(i).id for i in (0, 1, 2, 4)] == ["speaks0", "speaks1", "speaks2", "speaks3"]
    assert alone.read(3, audio=False).id == "heard" and not alone.read(3, audio=False).audio
    with pytest.raises(RecordError, match=f"{audio.name} record 1: "):
        alone.read(3)


def test_serving_reads_audio_only_to_hear_it(tmp_path):
    """Where features are in memory, and where nothing is heard, the audio may as well be gone."""
    lock = write_mixture(tmp_path, {"caption_to_audio": (6, 1.0), "audio_to_caption": (4, 1.0)})
    loader = Loader(
        lock, BatchShape(2, 512, 64), VOCABULARY, LoaderConfig(cfg_dropout=0.0, feature_cache_mb=64)
    )
    heard = [loader.batch(step) for step in range(4)]
    for path in tmp_path.rglob("audio.array_record*"):
        path.write_bytes(bytes(path.stat().st_size))  # the same file, which readers have open
    again = [loader.batch(step) for step in range(4)]
    for one, two in zip(heard, again, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
    assert not loader.rows.damaged
    forgetful = Loader(lock, BatchShape(2, 512, 64), VOCABULARY, LoaderConfig(cfg_dropout=0.0))
    assert forgetful.batch(0) is not None and forgetful.rows.damaged, "without memory it is missed"


@pytest.mark.parametrize("found", [2, 4, True, None])
def test_a_cache_of_another_format_is_refused(tmp_path, found):
    write_cache(tmp_path, examples(2))
    path = tmp_path / cache.MANIFEST
    manifest = json.loads(path.read_text())
    manifest |= {"format": found}
    if found is None:
        del manifest["format"]  # as before the third
    path.write_text(json.dumps(manifest))
    with pytest.raises(CacheError, match="has cache format .*this version reads 3; run cache_tasks again"):
        len(TaskCache(tmp_path))


def test_a_lock_that_is_none_is_named(tmp_path):
    with pytest.raises(CacheError, match="does not exist; run cache_tasks"):
        read_lock(tmp_path / "m.lock.json")
    for content in ("not json", "[]", "{}", '{"format": 1, "mixture": "m"}', '{"format": 99, "splits": {}}'):
        (tmp_path / "m.lock.json").write_text(content)
        with pytest.raises(CacheError, match="run cache_tasks again"):
            read_lock(tmp_path / "m.lock.json")
    with pytest.raises(ValueError, match="rate_unit must be one of examples, tokens"):
        Lock("m", "bytes", "t", 1, "c", 1, 8, 9, {})
