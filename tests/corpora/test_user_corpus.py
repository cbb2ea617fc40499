"""Bring your own JSONL: every kind of audio goes in, builds repeat and resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import REPOSITORY
from sound_files import by_ffmpeg
from user_corpus_helpers import CAPTION, build, good, tone, write_jsonl

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly, user, user_audio
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import read_manifest


def _container(path: Path, format: str, codec: str, rate: int, channels: int) -> None:
    samples = tone(1.0, rate)
    samples = np.repeat(samples[:, None], channels, 1) if channels > 1 else samples
    path.write_bytes(by_ffmpeg(samples, format, codec, rate))


def _sound_file(subtype: str, rate: int, channels: int, format: str = "WAV"):
    def write(path: Path) -> None:
        soundfile.write(path, np.repeat(tone(1.0, rate)[:, None], channels, 1), rate, subtype, format=format)

    return write


ACCEPTED = {
    "eight_bit.wav": _sound_file("PCM_U8", 8_000, 1),
    "twenty_four_bit.wav": _sound_file("PCM_24", 96_000, 1),
    "float.wav": _sound_file("FLOAT", 44_100, 1),
    "six_channels.flac": _sound_file("PCM_16", 48_000, 6, "FLAC"),
    "stereo.ogg": _sound_file("VORBIS", 22_050, 2, "OGG"),
    "mp3_inside.wav": _sound_file("MPEG_LAYER_III", 44_100, 2, "MP3"),
    "aac.m4a": lambda path: _container(path, "ipod", "aac", 44_100, 2),
    "matroska.mka": lambda path: _container(path, "matroska", "pcm_s16le", 11_025, 1),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_any_rate_channel_count_and_container_becomes_16_khz_mono(tmp_path, name):
    (tmp_path / "source").mkdir()
    ACCEPTED[name](tmp_path / "source" / name)
    clips, rejects = build(tmp_path, [{"id": "x", "audio": name, "caption": CAPTION}])
    assert not rejects
    info = soundfile.info(tmp_path / "out" / clips[0].audio)
    assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")
    samples = audio.read(tmp_path / "out" / clips[0].audio)
    peak = np.argmax(np.abs(np.fft.rfft(samples[1000:15_000]))) * 16_000 / 14_000
    assert abs(peak - 440) < 3
    assert clips[0].duration == pytest.approx(len(samples) / 16_000) == pytest.approx(1.0, abs=0.08)


def test_dialogue_audio_is_copied_or_refers_to_clips(tmp_path):
    dialogue = [["user", "audio", "good.wav"], ["user", "audio", "other.wav"], ["assistant", "audio", "a"]]
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source" / "other.wav", tone(0.25), 16_000)
    clips, rejects = build(tmp_path, [good("a"), {"id": "talk", "audio": "good.wav", "dialogue": dialogue}])
    assert not rejects
    contents = [content for _, _, content in clips[1].dialogue]
    assert contents == ["talk", "audio/messages/talk-1.flac", "a"]
    assert len(audio.read(tmp_path / "out" / contents[1])) == 4000


def test_audio_that_an_assistant_says_becomes_a_clip(tmp_path):
    """Only clips get codec codes."""
    dialogue = [
        ["user", "text", "Two tones."],
        ["assistant", "audio", "good.wav"],
        ["assistant", "audio", "other.wav"],
    ]
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source" / "other.wav", tone(0.25), 16_000)
    clips, rejects = build(tmp_path, [{"id": "talk", "dialogue": dialogue}])
    talk, beside = clips
    assert not rejects and [content for _, _, content in talk.dialogue[1:]] == [talk.id, beside.id]
    assert len(audio.read(tmp_path / "out" / talk.audio)) == 8000
    assert len(audio.read(tmp_path / "out" / beside.audio)) == 4000
    assert beside.split == talk.split and beside.caption is beside.dialogue is None


def test_an_annotation_gives_a_caption_and_text_needs_no_audio(tmp_path):
    annotation = {"duration": 0.5, "sounds": [{"label": "bell", "start": 0.0, "end": 0.5}]}
    records = [{"audio": "good.wav", "annotation": annotation}, {"id": "t", "text": "A document."}]
    clips, rejects = build(tmp_path, records)
    assert not rejects and "bell" in clips[0].caption and clips[0].id.startswith("good-")
    assert (clips[1].domain, clips[1].audio, clips[1].text) == ("text", None, "A document.")


def test_missing_splits_come_from_the_group(tmp_path):
    records = [good(f"{g}-{i}", group=f"speaker{g}") for g in range(200) for i in range(2)]
    records[0]["split"] = "test"
    clips, _ = build(tmp_path, records, held_out=0.1)
    splits = {}
    for clip in clips:
        splits.setdefault(clip.group, set()).add(clip.split)
    assert all(len(found) == 1 for found in splits.values())
    assert splits["speaker0"] == {"test"}
    sizes = {split: sum(found == {split} for found in splits.values()) for split in ("validation", "test")}
    assert all(8 <= size <= 35 for size in sizes.values()), sizes
    alone = assembly.hash_split("speaker7", 0, 0.1)
    assert splits["speaker7"] == {alone}, "a group's split must not depend on the other records"


def test_a_build_repeats_byte_for_byte_and_converts_only_what_changed(tmp_path, monkeypatch):
    records = [good("a"), good("b", audio="other.wav"), good("c", caption=" ")]
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source" / "other.wav", tone(0.7), 16_000)
    build(tmp_path, records)
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in ("manifest.jsonl", "rejects.jsonl", "corpus.json")}
    converted = []
    original = user_audio.convert
    monkeypatch.setattr(user_audio, "convert", lambda c: converted.append(c.record) or original(c))
    with open(out / "journal.jsonl", "a") as journal:
        journal.write('{"key": "torn')
    soundfile.write(tmp_path / "source" / "other.wav", tone(0.9), 16_000)
    clips, _ = build(tmp_path, records)
    assert converted == ["b"] and clips[1].duration == pytest.approx(0.9)
    soundfile.write(tmp_path / "source" / "other.wav", tone(0.7), 16_000)
    build(tmp_path, records)
    assert {name: (out / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_a_killed_build_continues_to_the_same_bytes(tmp_path):
    source = write_jsonl(tmp_path, [good(f"r{i}", audio=f"{i}.wav") for i in range(60)])
    for i in range(60):
        soundfile.write(source.parent / f"{i}.wav", tone(10.0, 48_000, 200 + i), 48_000)
    command = [sys.executable, "-m", "bagpiper_jax", "build_corpus", "--gin_file=gin/corpora/user.gin"]
    command += [f"--gin.UserCorpusConfig.source={source}", "--gin.UserCorpusConfig.directory="]

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command[:-1], command[-1] + str(tmp_path / name)],
            cwd=REPOSITORY,
            start_new_session=True,
        )

    killed = start("killed")
    while len(list(tmp_path.glob("killed/audio/*.flac"))) < 8:
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "manifest.jsonl").exists()
    assert start("killed").wait() == 0 and start("whole").wait() == 0
    for name in ("manifest.jsonl", "rejects.jsonl", *(f"audio/r{i}.flac" for i in range(60))):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_two_workers_give_what_one_gives(tmp_path):
    records = [good(f"r{i}") for i in range(6)]
    one, _ = build(tmp_path / "one", records)
    two, _ = build(tmp_path / "two", records, workers=2)
    assert one == two


def test_the_demo_clips_pass(demo_clips, tmp_path):
    source = demo_clips / "manifest.jsonl"
    config = user.UserCorpusConfig(str(source), str(tmp_path), workers=1, max_reject_frac=0.0)
    clips = list(read_manifest(user.build(config)))
    captions = [json.loads(line)["caption"].strip() for line in source.read_text().splitlines()]
    assert len(clips) == 24 and [clip.caption for clip in clips] == captions
    for clip in clips:
        assert len(audio.read(tmp_path / clip.audio)) == round(clip.duration * 16_000)


def test_the_job_builds_and_ends_with_a_clear_line_on_failure(tmp_path):
    source = write_jsonl(tmp_path, [good()])
    soundfile.write(source.parent / "good.wav", tone(), 16_000)
    flags = ["--gin_file=gin/corpora/user.gin", f"--gin.UserCorpusConfig.directory={tmp_path / 'out'}"]
    build_corpus.main([*flags, f"--gin.UserCorpusConfig.source={source}"])
    assert len(list(read_manifest(tmp_path / "out"))) == 1
    with pytest.raises(Explained, match=".* does not exist"):
        build_corpus.main([*flags, "--gin.UserCorpusConfig.source=nowhere.jsonl"])
