"""Every bad record and every bad file of a user's JSONL is named, and the others pass."""

import os
import resource
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_files import by_libsndfile, mp3, noise_and_tone
from user_corpus_helpers import CAPTION, build, good, tone, write_jsonl

from bagpiper_jax import audio, files
from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.corpora import assembly, user
from bagpiper_jax.corpora.assembly import CorpusError


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


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def test_files_that_are_not_whole_cost_themselves_alone(tmp_path):
    wav, flac = by_libsndfile(tone(1.0), "WAV"), by_libsndfile(noise_and_tone(), "FLAC")
    ogg, mp3_file = by_libsndfile(noise_and_tone(), "OGG"), mp3(noise_and_tone())
    files = {
        "proprietary.wav": wav[:20] + b"\x34\x12" + wav[22:], "cut.wav": wav[: len(wav) // 2], "cut.ogg": ogg[:-1],
        "cut.mp3": mp3_file[: len(mp3_file) // 2], "damaged.flac": _flipped(flac, len(flac) // 2),
        "joined.wav": wav * 2, "joined.flac": flac * 2,
    }  # fmt: skip
    (tmp_path / "source").mkdir()
    for name, data in files.items():
        (tmp_path / "source" / name).write_bytes(data)
    records = [good(str(n)) for n in range(12)] + [good(name, audio=name) for name in files]
    clips, rejects = build(tmp_path, records, max_reject_frac=0.5)
    assert len(clips) == 12 and [r["id"] for r in rejects] == list(files)
    for reject in rejects:
        assert reject["reason"] == "corrupt_audio" and reject["id"] in reject["detail"], reject


BAD_RECORDS = {
    "a NeMo manifest": ({"audio_filepath": "good.wav", "duration": 0.5, "text": "hello"}, "unread_audio"),
    "a Lhotse cut": (
        {"id": "x", "recording": {"sources": [{"source": "good.wav"}]}, "text": "hello"},
        "unread_audio",
    ),
    "a Lhotse supervision": ({"recording_id": "good", "start": 0, "text": "hello"}, "unread_audio"),
    "audio of the hub": ({"audio": {"path": "good.wav", "bytes": None}, "text": "hello"}, "wrong_type"),
    "a path of Common Voice": ({"path": "good.mp3", "text": "hello"}, "unread_audio"),
    "a file_name of audiofolder": ({"file_name": "data/good.wav", "caption": "A tone."}, "unread_audio"),
    "a wav of WeNet": ({"key": "good", "wav": "good", "text": "hello"}, "unread_audio"),
    "a dialogue without its audio": (
        {"audios": ["good.wav"], "dialogue": [["user", "text", "Hi."], ["assistant", "text", "Yo."]]},
        "unread_audio",
    ),
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
    with pytest.raises(CorpusError, match="records.jsonl holds no records: there are none to read"):
        build(tmp_path, records)


def test_all_rejected_says_that_none_is_left(tmp_path):
    with pytest.raises(CorpusError, match=r"1 of 1 records were rejected \(bad_json 1\): none is left; "):
        build(tmp_path, ["{"], max_reject_frac=1.0)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), AttributeError(), RecursionError("deep"), MemoryError()]
)
@pytest.mark.parametrize("place", ["audio", "caption", "filter"])
def test_an_error_of_any_kind_costs_its_record_and_is_counted_by_type(tmp_path, monkeypatch, error, place):
    """What a decoder, or our own code, raises on one record of three."""

    def failing(function, fails):
        def wrapped(*arguments, **keywords):
            if fails(*arguments):
                raise error
            return function(*arguments, **keywords)

        return wrapped

    records = [good("a"), good("b"), good("c")]
    if place == "audio":
        (tmp_path / "source").mkdir()
        soundfile.write(tmp_path / "source/odd.wav", tone(), 16_000)
        records[1]["audio"] = "odd.wav"
        monkeypatch.setattr(
            audio, "read", failing(audio.read, lambda path, *_: str(path).endswith("odd.wav"))
        )
    elif place == "caption":
        records[1]["annotation"] = {"duration": 0.5}
        monkeypatch.setattr(user, "AudioAnnotation", Failing(error))
    else:
        records[1]["caption"] = "Odd."
        reason = failing(CaptionFilter.reason, lambda _, caption, *__: caption == "Odd.")
        monkeypatch.setattr(CaptionFilter, "reason", reason)
    clips, (reject,) = build(tmp_path, records, caption_filter=CaptionFilter(min_tokens=1))
    assert [clip.id for clip in clips] == ["a", "c"]
    assert reject["reason"] == f"error_{type(error).__name__}" and (reject["line"], reject["id"]) == (2, "b")
    assert reject["detail"] and reject["remedy"]


class Failing:
    """Stands for annotations whose reading fails."""

    def __init__(self, error: Exception):
        self._error = error

    def from_json(self, value):
        raise self._error


def test_a_user_who_interrupts_is_obeyed(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(audio, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, [good("a")])


@pytest.mark.parametrize("limit", [3_000, 600])
def test_a_full_disk_is_named_and_the_same_command_finishes(tmp_path, limit):
    """A limit of file sizes makes writes fail as a full disk does: in the first audio file, or later in a list."""
    records = [good(f"r{i}", group=f"g{i}" * 20) for i in range(20)]
    source = write_jsonl(tmp_path, records)
    soundfile.write(source.parent / "good.wav", tone(), 16_000)
    config = user.UserCorpusConfig(str(source), str(tmp_path / "out"), workers=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(
            files.WriteError, match=f"cannot write {tmp_path}/out/.*: File too large. Free .*again"
        ):
            user.build(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").rglob("*.tmp*")) and not (tmp_path / "out/manifest.jsonl").exists()
    clips, rejects = build(tmp_path, records)
    assert len(clips) == 20 and not rejects and not list((tmp_path / "out").rglob("*.tmp*"))


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


def test_a_dialogue_that_quotes_a_rejected_record_is_rejected_too(tmp_path):
    quoting = {"id": "q", "audio": "good.wav", "dialogue": [["assistant", "audio", "gone"]]}
    quoting_that = {"id": "r", "audio": "good.wav", "dialogue": [["assistant", "audio", "q"]]}
    clips, rejects = build(tmp_path, [good(), good("gone", audio="no.wav"), quoting, quoting_that])
    assert [clip.id for clip in clips] == ["good"]
    assert [r["reason"] for r in rejects] == ["missing_audio", "broken_reference", "broken_reference"]


def test_the_caption_filter_counts_by_its_own_reasons(tmp_path):
    records = [good("short"), good("long", caption="one two three four five six seven.")]
    clips, rejects = build(tmp_path, records, caption_filter=CaptionFilter(min_tokens=7))
    assert [clip.id for clip in clips] == ["long"]
    assert [r["reason"] for r in rejects] == ["caption_too_few_tokens"]


def test_a_dying_worker_ends_the_build_with_advice():
    with pytest.raises(CorpusError, match="worker process died near .*workers=1"):
        list(assembly.parallel_map(os._exit, [3, 4, 5], workers=2))
