"""Bring your own JSONL: every kind of audio goes in, every bad record is named, builds repeat and resume."""

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bagpiper_jax import audio, build_corpus
from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.corpora import assembly, user, user_audio
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.manifest import Clip, read_manifest

CAPTION = "A short steady tone is heard."


def tone(seconds: float = 0.5, rate: int = 16_000, frequency: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_jsonl(folder: Path, records: list) -> Path:
    """Records as lines; strings and bytes stand as they are."""
    lines = [
        r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in records
    ]
    path = folder / "source" / "records.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def build(folder: Path, records: list, **settings) -> tuple[list[Clip], list[dict]]:
    """Builds with one worker; gives clips and rejects. `good.wav` is there for the taking."""
    source = write_jsonl(folder, records)
    if not (source.parent / "good.wav").exists():
        soundfile.write(source.parent / "good.wav", tone(), 16_000)
    config = user.UserCorpusConfig(
        str(source), str(folder / "out"), **{"workers": 1, "max_reject_frac": 0.9, **settings}
    )
    directory = user.build(config)
    rejects = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    return list(read_manifest(directory)), rejects


def good(name: str = "good", **fields) -> dict:
    return {"id": name, "audio": "good.wav", "caption": CAPTION, **fields}


def _container(path: Path, codec: str, rate: int, layout: str) -> None:
    import av

    channels = 1 if layout == "mono" else 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        pcm = np.repeat((tone(1.0, rate) * 32767).astype(np.int16)[:, None], channels, 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.sample_rate = rate
        for converted in av.AudioResampler(stream.format, layout, rate).resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))


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
    "aac.m4a": lambda path: _container(path, "aac", 44_100, "stereo"),
    "matroska.mka": lambda path: _container(path, "pcm_s16le", 11_025, "mono"),
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


def _nan(path: Path) -> None:
    samples = tone()
    samples[100] = np.nan
    soundfile.write(path, samples, 16_000, "FLOAT")


def _half_hour(path: Path) -> None:
    soundfile.write(path, np.zeros(30 * 60 * 8_000, np.int16), 8_000)


def _no_samples(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))


BAD_AUDIO = {
    "missing_audio": lambda path: None,
    "corrupt_audio": lambda path: path.write_bytes(b"RIFF" + os.urandom(4000)),
    "empty_audio": _no_samples,
    "not_finite_audio": _nan,
    "too_long_audio": _half_hour,
    "too_short_audio": lambda path: soundfile.write(path, tone(0.05), 16_000),
    "silent_audio": lambda path: soundfile.write(path, np.zeros(8_000), 16_000),
    "out_of_range_audio": lambda path: soundfile.write(path, tone() * 32_768, 16_000, "FLOAT"),
}


@pytest.mark.parametrize("reason", BAD_AUDIO)
def test_bad_audio_is_a_named_reject(tmp_path, reason):
    (tmp_path / "source").mkdir()
    BAD_AUDIO[reason](tmp_path / "source" / "bad.wav")
    clips, rejects = build(tmp_path, [good(), {"id": "bad", "audio": "bad.wav", "caption": CAPTION}])
    assert [clip.id for clip in clips] == ["good"]
    (reject,) = rejects
    assert (reject["reason"], reject["line"], reject["id"]) == (reason, 2, "bad")
    assert reject["file"].endswith("records.jsonl") and "bad.wav" in reject["detail"] and reject["remedy"]
    assert not list((tmp_path / "out").rglob("*.tmp.flac"))


def test_a_zero_byte_file_a_folder_and_an_absurd_path_are_rejects(tmp_path):
    (tmp_path / "source" / "folder").mkdir(parents=True)
    (tmp_path / "source" / "nothing.wav").touch()
    records = [good(), good("a", audio="nothing.wav"), good("b", audio="folder"), good("c", audio="x" * 5000)]
    clips, rejects = build(tmp_path, records)
    assert len(clips) == 1
    assert [r["reason"] for r in rejects] == ["empty_audio", "missing_audio", "unreadable_audio"]


BAD_RECORDS = {
    "not json": ("{'id': 1}", "bad_json"),
    "cut short": ('{"id": "x", "audio": "good.wav"', "bad_json"),
    "not utf-8": (b'{"caption": "\xff\xfe"}', "bad_json"),
    "nested too deep": ("[" * 100_000, "bad_json"),
    "a list": ("[1, 2]", "bad_json"),
    "not a number": ('{"id": "x", "audio": "good.wav", "caption": "a", "duration": NaN}', "bad_json"),
    "caption of spaces": (good("x", caption=" \t\n "), "blank_caption"),
    "caption a number": (good("x", caption=7), "wrong_type"),
    "audio a list": (good("x", audio=["good.wav"]), "wrong_type"),
    "id a number": (good("x", id=5), "wrong_type"),
    "annotation a string": (good("x", annotation="loud"), "wrong_type"),
    "id with a path": (good("../../x"), "bad_id"),
    "id far too long": (good("x" * 500), "bad_id"),
    "endless caption": (good("x", caption="word " * 100_000), "too_long_text"),
    "control characters": (good("x", caption="a\x00b"), "bad_text"),
    "half a surrogate pair": ('{"id": "x", "audio": "good.wav", "caption": "\\ud800"}', "bad_text"),
    "unknown split": (good("x", split="dev"), "bad_split"),
    "unknown domain": (good("x", domain="noise"), "bad_domain"),
    "absurd language": (good("x", language="the language of birds"), "bad_language"),
    "nothing said of the audio": ({"id": "x", "audio": "good.wav"}, "no_content"),
    "no audio": ({"id": "x", "caption": CAPTION}, "no_audio"),
    "nothing at all": ({}, "no_content"),
    "null byte in the path": (good("x", audio="good\x00.wav"), "bad_text"),
    "unknown role": (good("x", dialogue=[["narrator", "text", "Hi."]]), "unknown_role"),
    "unknown modality": (good("x", dialogue=[["user", "smell", "Hi."]]), "bad_dialogue"),
    "message of spaces": (good("x", dialogue=[["user", "text", "  "]]), "bad_dialogue"),
    "message of two parts": (good("x", dialogue=[["user", "Hi."]]), "bad_dialogue"),
    "dialogue an object": (good("x", dialogue={"user": "Hi."}), "wrong_type"),
    "empty dialogue": (good("x", dialogue=[]), "wrong_type"),
    "dialogue with missing audio": (good("x", dialogue=[["user", "audio", "no.wav"]]), "missing_audio"),
    "annotation of nothing": (good("x", annotation={}), "bad_annotation"),
    "annotation with negative duration": (good("x", annotation={"duration": -1.0}), "bad_annotation"),
    "annotation of another clip": (good("x", annotation={"duration": 25.0}), "duration_mismatch"),
    "event after the end": (
        good("x", annotation={"duration": 0.5, "sounds": [{"label": "bell", "start": 3.0, "end": 4.0}]}),
        "bad_annotation",
    ),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_bad_record_is_a_named_reject_and_the_others_pass(tmp_path, case):
    record, reason = BAD_RECORDS[case]
    clips, rejects = build(tmp_path, [good("before"), record, good("after")])
    assert [clip.id for clip in clips] == ["before", "after"]
    assert [(r["reason"], r["line"]) for r in rejects] == [(reason, 2)]
    assert rejects[0]["file"].endswith("records.jsonl") and rejects[0]["detail"] and rejects[0]["remedy"]


def test_a_repeated_id_names_the_first_line(tmp_path):
    clips, rejects = build(tmp_path, [good("a"), good("b"), good("a", caption="Another.")])
    assert [clip.id for clip in clips] == ["a", "b"] and clips[0].caption == CAPTION
    assert rejects[0]["reason"] == "duplicate_id" and "line 1" in rejects[0]["detail"]


def test_too_many_rejects_fail_the_build_and_leave_no_manifest(tmp_path):
    build(tmp_path, [good("a")])
    with pytest.raises(CorpusError, match=r"2 of 3 records were rejected \(blank_caption 2\).*rejects.jsonl"):
        build(tmp_path, [good("a"), good("b", caption=" "), good("c", caption=" ")], max_reject_frac=0.5)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert len((tmp_path / "out" / "rejects.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("records", [[], ["", "  "]])
def test_an_empty_source_fails(tmp_path, records):
    with pytest.raises(CorpusError, match="none to read"):
        build(tmp_path, records)


def test_a_missing_source_and_its_own_folder_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="does not exist"):
        user.build(user.UserCorpusConfig(str(tmp_path / "no.jsonl"), str(tmp_path / "out")))
    source = write_jsonl(tmp_path, [good()])
    with pytest.raises(CorpusError, match="holds the source"):
        user.build(user.UserCorpusConfig(str(source), str(source.parent)))
    assert source.exists()


def test_another_corpus_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(CorpusError, match="holds another corpus"):
        build(tmp_path, [good()])
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == "{}\n"


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


def test_a_dialogue_that_quotes_a_rejected_record_is_rejected_too(tmp_path):
    quoting = {"id": "q", "audio": "good.wav", "dialogue": [["assistant", "audio", "gone"]]}
    quoting_that = {"id": "r", "audio": "good.wav", "dialogue": [["assistant", "audio", "q"]]}
    clips, rejects = build(tmp_path, [good(), good("gone", audio="no.wav"), quoting, quoting_that])
    assert [clip.id for clip in clips] == ["good"]
    assert [r["reason"] for r in rejects] == ["missing_audio", "broken_reference", "broken_reference"]


def test_an_annotation_gives_a_caption_and_text_needs_no_audio(tmp_path):
    annotation = {"duration": 0.5, "sounds": [{"label": "bell", "start": 0.0, "end": 0.5}]}
    records = [{"audio": "good.wav", "annotation": annotation}, {"id": "t", "text": "A document."}]
    clips, rejects = build(tmp_path, records)
    assert not rejects and "bell" in clips[0].caption and clips[0].id.startswith("good-")
    assert (clips[1].domain, clips[1].audio, clips[1].text) == ("text", None, "A document.")


def test_the_caption_filter_counts_by_its_own_reasons(tmp_path):
    records = [good("short"), good("long", caption="one two three four five six seven.")]
    clips, rejects = build(tmp_path, records, caption_filter=CaptionFilter(min_tokens=7))
    assert [clip.id for clip in clips] == ["long"]
    assert [r["reason"] for r in rejects] == ["caption_too_few_tokens"]


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
    command = [sys.executable, "-m", "bagpiper_jax.build_corpus", "--gin_file=gin/corpora/user.gin"]
    command += [f"--gin.UserCorpusConfig.source={source}", "--gin.UserCorpusConfig.directory="]

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command[:-1], command[-1] + str(tmp_path / name)],
            cwd=Path(__file__).parents[1],
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


def test_a_dying_worker_ends_the_build_with_advice():
    with pytest.raises(CorpusError, match="worker process died near .*workers=1"):
        list(assembly.parallel_map(os._exit, [3, 4, 5], workers=2))


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
    with pytest.raises(SystemExit, match="build_corpus: .* does not exist"):
        build_corpus.main([*flags, "--gin.UserCorpusConfig.source=nowhere.jsonl"])
