"""Whatever is wrong with a lock, a cache, a codec or a setting, inspection ends with a message that explains it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from inspection_helpers import random_codec
from synthetic_cache import dialogue_of, example, write_mixture_of

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.errors import Explained
from bagpiper_jax.inspection.comparison import compare_caches
from bagpiper_jax.jobs import inspect_data

SHAPE = [f"--gin.BatchShape.{name}" for name in ("rows=2", "slots=512", "chunks=16")]
VIEWS = {
    "summary": [],
    "validate": ["--validate", "--steps=3"],
    "row": ["--step=0"],
    "example": ["--task=task", "--index=1"],
    "clip": ["--id=generation-0"],
    "rejects": ["--rejects=2"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(lock, codec) of a small mixture with every direction and one reject."""
    rng = np.random.default_rng(0)
    directions = ("caption_to_audio", "audio_to_caption", "text_only", "understanding", "generation")
    examples = [example(dialogue_of(direction, rng), f"{direction}-0") for direction in directions]
    examples.append({**examples[0], "id": b"refused", "text": np.full(500, 999, np.int32)})
    codec = random_codec(tmp_path_factory.mktemp("codec") / "codec.safetensors")
    return write_mixture_of(tmp_path_factory.mktemp("mixed"), examples, codec_fingerprint=codec[2]), codec[0]


@pytest.fixture
def copied(whole, tmp_path):
    """A lock that a test may damage, its cache beside it."""
    shutil.copytree(whole[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / whole[0].name


def job(lock, *flags) -> int:
    return inspect_data.main([f"--lock={lock}", *SHAPE, "--gin.InspectConfig.shape=@BatchShape()", *flags])


def refuses(match: str, lock, *flags) -> None:
    with pytest.raises(Explained, match=match):
        job(lock, *flags)


def rewrite(lock, **fields) -> None:
    lock.write_text(json.dumps({**json.loads(lock.read_text()), **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"num_streams": 0},
        {"num_streams": -3},
        {"tokenizer_size": 10**30},
        {"codebook_size": -1},
        {"max_slots": -1},
    ],
)
def test_a_lock_with_sizes_that_nothing_has_is_refused(copied, fields):
    rewrite(copied, **fields)
    for view in ("summary", "row", "example"):
        refuses(f"is not a mixture lock: {next(iter(fields))} must be", copied, *VIEWS[view])
    assert job(copied, *VIEWS["validate"]) == 4


def test_a_lock_that_is_a_folder_is_refused(copied):
    copied.unlink()
    copied.mkdir()
    refuses("cannot be read: Is a directory", copied)
    refuses("cannot be read: Is a directory", copied, f"--compare={copied}")


def test_a_cache_whose_path_no_file_system_holds_is_refused(copied):
    splits = json.loads(copied.read_text())["splits"]
    splits["train"][0]["path"] = "a" * 5000
    rewrite(copied, splits=splits)
    refuses("cannot be read: File name too long", copied)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"id": "refused"}',
        '{"id": 1, "reason": [], "detail": null}',
        "null",
        '{"id":',
        '"id reason detail"',
    ],
)
def test_a_damaged_list_of_rejects_is_named(copied, line):
    (copied.parent / "task/train/rejects.jsonl").write_text(line + "\n")
    for view in ("clip", "rejects"):
        refuses("rejects.jsonl cannot be read", copied, *VIEWS[view])


def damage(lock, place: bytes) -> None:
    """Flips a bit of the record that holds `place`."""
    for shard in (lock.parent / "task/train").glob("*.array_record*"):
        data = bytearray(shard.read_bytes())
        if (at := data.find(place)) >= 0:
            data[at] ^= 1
            shard.write_bytes(bytes(data))


def test_a_clip_whose_record_is_damaged_is_not_called_skipped(copied, capsys):
    damage(copied, b"generation-0")
    assert job(copied, *VIEWS["clip"]) == 0
    assert "1 records are damaged and may hold it" in capsys.readouterr().out
    damage(copied, b"fLaC")
    assert job(copied, "--id=audio_to_caption-0") == 0
    assert "task: its record 1 is damaged: " in capsys.readouterr().out
    refuses("record", copied, "--task=task", "--index=1")
    assert job(copied, *VIEWS["row"]) == 0


def test_any_exception_of_a_record_is_a_damaged_record(whole, monkeypatch):
    cache = TaskCache(whole[0].parent / "task/train")
    other = TaskCache(whole[0].parent / "task/train")
    object.__setattr__(other, "manifest_sha256", "another")
    read = TaskCache.read

    def fails(self, index, audio=True):
        if index == 2:
            raise ZeroDivisionError("of a decoder")
        return read(self, index, audio)

    monkeypatch.setattr(TaskCache, "read", fails)
    found = compare_caches("task", cache, other)
    assert found.same == len(cache) - 1
    assert found.damaged == tuple(
        f"{w}: record 2: ZeroDivisionError: of a decoder" for w in ("first", "second")
    )
    shape = BatchShape(2, 512, 16)
    config = inspect_data.InspectConfig(lock=str(whole[0]), step=0, shape=shape)
    said = "".join(inspect_data.inspect(dataclasses.replace(config, step=n)).said for n in range(3))
    assert "damaged, its slots are empty: ZeroDivisionError: of a decoder" in said


def test_a_codec_that_is_missing_or_damaged_is_named(whole, tmp_path):
    lock, codec = whole
    damaged = bytearray(codec.read_bytes())
    damaged[-5] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(bytes(damaged))
    for path in (tmp_path / "none.safetensors", tmp_path, lock):
        refuses("is not a codec file", lock, *VIEWS["row"], f"--codec={path}")
    refuses(
        "contents differ from their fingerprint", lock, *VIEWS["row"],
        f"--codec={tmp_path / 'damaged.safetensors'}", f"--html={tmp_path / 'row.html'}",
    )  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        ["--step=0", "--row=-1"], ["--step=-2"], [f"--step={10**19}"], ["--task=task", f"--index={10**20}"],
        ["--steps=0"], [f"--steps={10**20}"], ["--seed=-1"], [f"--seed={10**23}"], ["--cfg_dropout=1.5"],
        ["--cfg_dropout=-0.5"], ["--rejects=-1"], ["--gin.BatchShape.rows=0"], ["--gin.BatchShape.slots=-1"],
    ],
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused(whole, flags):
    flags = [flag for flag in (*SHAPE, *flags)]
    given = {flag.partition("=")[0]: flag for flag in flags}
    with pytest.raises(Explained, match="must be"):
        inspect_data.main([f"--lock={whole[0]}", *given.values(), "--gin.InspectConfig.shape=@BatchShape()"])


@pytest.mark.parametrize("place", ["folder", "file/page.html", "a" * 300, "a\0b"])
def test_a_page_or_clips_that_cannot_be_written_name_their_place(whole, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    refuses("cannot be written", whole[0], f"--html={tmp_path / place}")
    if place != "folder":
        refuses("clips cannot be written", whole[0], *VIEWS["clip"], f"--audio_dir={tmp_path / place}")


def test_a_task_name_is_no_path(whole, tmp_path):
    lock = write_mixture_of(
        tmp_path / "in", [example(dialogue_of("understanding", np.random.default_rng(0)))]
    )
    splits = json.loads(lock.read_text())["splits"]
    splits["train"][0]["task"] = "../../up"
    rewrite(lock, splits=splits)
    assert job(lock, "--task=../../up", "--index=0", f"--audio_dir={tmp_path / 'a/b/c'}") == 0
    assert [path.name for path in (tmp_path / "a/b/c").iterdir()] == [".._.._up_0_0.flac"]


def test_a_terminal_that_cannot_show_a_text_does_not_end_the_job(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    lock = write_mixture_of(tmp_path, [example([("assistant", "text", "Jérôme “hört”")], "c")])
    lock = lock.rename(tmp_path / name)
    command = [sys.executable, "-m", "bagpiper_jax", "inspect_data", f"--lock={lock}", "--id=c"]
    ended = subprocess.run(
        [*command, f"--html={tmp_path / 'page.html'}"], capture_output=True, timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert rb"J\xe9r\xf4me \u201ch\xf6rt\u201d" in ended.stdout
    assert "caf\\udce9" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_empty_split_is_named(copied):
    rewrite(copied, splits={"train": []})
    for view in ("summary", "row"):
        with pytest.raises(CacheError, match="has no examples in split 'train'"):
            job(copied, *VIEWS[view])
