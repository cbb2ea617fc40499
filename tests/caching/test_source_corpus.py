"""A source written out as a corpus: the same clips and audio, restartable, and codes can follow."""

import json

import numpy as np
import pytest
from task_helpers import cache_mixture, caches, config, write_codes
from written_sources import as_json, flac, sound, write_table, write_tar

from bagpiper_jax import audio
from bagpiper_jax.caching import source_corpus
from bagpiper_jax.caching.source_corpus import SourceCorpusConfig
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import read_manifest
from tasks import clip_source, mixtures, pretraining
from tasks.file_sources import ParquetSource, TarSource

BIRDS = TarSource("birds", {"train": "*.tar"}, domain="sound", licence="CC0-1.0")
TALKS = ParquetSource("talks", {"train": "*.parquet"})
mixtures.add_task("birds_to_write", BIRDS, pretraining.audio_to_caption)
mixtures.add_task("talks_to_write", TALKS, pretraining.audio_to_caption)
mixtures.add_corpus("written")


@pytest.fixture
def root(tmp_path):
    members = [
        (f"b{i}.{e}", data) for i in range(4) for e, data in (("flac", flac(i)), ("txt", f"{i}".encode()))
    ]
    members += [("mute.flac", audio.encode_flac(np.zeros(8000, np.float32))), ("mute.txt", b"Nothing.")]
    members += [
        ("torn.flac", b"fLaC?"),
        ("torn.txt", b"Torn."),
        ("wrong.flac", flac(1)),
        ("wrong.json", as_json(caption=1)),
    ]
    write_tar(tmp_path / "birds/x.tar", members)
    return tmp_path


def build(root, task="birds_to_write", **fields):
    return source_corpus.build(
        SourceCorpusConfig(task, str(root / "written"), str(root), **{"max_reject_frac": 0.5, **fields})
    )


def test_clips_and_audio_are_those_of_the_source(root):
    directory = build(root)
    clips = {clip.id: clip for clip in read_manifest(directory)}
    assert set(clips) == {"b0", "b1", "b2", "b3"}
    for number in range(4):
        clip = clips[f"b{number}"]
        assert (clip.caption, clip.domain, clip.licence, clip.duration) == (
            f"{number}",
            "sound",
            "CC0-1.0",
            0.5,
        )
        np.testing.assert_array_equal(audio.read(directory / clip.audio), sound(number))
    rejects = {r["file"]: r["reason"] for r in map(json.loads, open(directory / "rejects.jsonl"))}
    assert rejects == {
        "x.tar: mute": "silent_audio",
        "x.tar: torn": "corrupt_audio",
        "x.tar: wrong": "wrong_type",
    }


def test_a_second_build_takes_up_changes_and_writes_nothing_that_is_done(root):
    directory = build(root)
    members = [
        (f"b{i}.{e}", d) for i in (0, 1, 2, 3) for e, d in (("flac", flac(i + 5 * (i == 2))), ("txt", b"new"))
    ]
    write_tar(root / "birds/x.tar", members)
    clip_source.opened.cache_clear()
    build(root)
    assert {clip.caption for clip in read_manifest(directory)} == {"new"}
    np.testing.assert_array_equal(audio.read(directory / "audio/b2.flac"), sound(7))
    stamps = {path: path.stat().st_mtime_ns for path in directory.rglob("*.flac")}
    build(root)
    assert stamps == {path: path.stat().st_mtime_ns for path in directory.rglob("*.flac")}


def test_codes_of_the_corpus_reach_tasks_that_speak(root):
    write_codes(build(root), {"b0": 5, "b1": 6, "b2": 7, "b3": 8})
    job = config(
        root, mixtures=("written_caption_to_audio",), rates={}, codec="nano-codec", splits=("train",)
    )
    (cache,) = caches(cache_mixture(job)).values()
    assert [len(cache.read(i).codes) for i in range(len(cache))] == [5, 6, 7, 8]


def test_dialogues_keep_what_they_name(tmp_path):
    turns = [["user", "audio", "q.wav"], ["user", "text", "What?"], ["assistant", "text", "Noise."]]
    write_table(
        tmp_path / "talks/x.parquet",
        [{"id": "t", "audio": {"bytes": flac(3), "path": "q.wav"}, "dialogue": turns}],
    )
    (clip,) = read_manifest(build(tmp_path, "talks_to_write"))
    assert clip.dialogue == [["user", "audio", "t"], *turns[1:]] and clip.audio == "audio/t.flac"


@pytest.mark.parametrize("name", ["/any/file.flac", "../x.flac", "folder/x.flac", "x y.flac"])
def test_a_dialogue_takes_no_file_along_that_did_not_come_with_it(tmp_path, name):
    rows = [
        {
            "id": i,
            "audio": {"bytes": flac(3), "path": "q.wav"},
            "dialogue": [["user", "audio", n], ["assistant", "text", "x"]],
        }
        for i, n in (("good", "q.wav"), ("bad", name))
    ]
    write_table(tmp_path / "talks/x.parquet", rows)
    directory = build(tmp_path, "talks_to_write")
    assert [clip.id for clip in read_manifest(directory)] == ["good"]
    (reject,) = map(json.loads, open(directory / "rejects.jsonl"))
    assert reject["reason"] == "outside_audio" and name in reject["detail"]


def test_what_cannot_be_written_out_is_refused(root):
    with pytest.raises(CorpusError, match="no task 'birds_to_wriet' is registered"):
        build(root, "birds_to_wriet")
    with pytest.raises(CorpusError, match="is a corpus already"):
        build(root, "user_text_only")
    with pytest.raises(Explained, match="were rejected"):
        build_corpus.main([
            "--gin_file=gin/corpora/source.gin", "--gin.SourceCorpusConfig.task=birds_to_write",
            f"--gin.SourceCorpusConfig.data_root={root}", f"--gin.SourceCorpusConfig.directory={root}/written",
            "--gin.SourceCorpusConfig.max_reject_frac=0.1",
        ])  # fmt: skip
