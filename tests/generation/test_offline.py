"""Many requests through one engine: in order, in bounded memory, each bad one counted, none answered twice."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from offline_helpers import (
    TellingEngine,
    answer,
    answer_file,
    clip,
    files_below,
    lines_of,
    requests_file,
    sound_of,
)

from bagpiper_jax import audio, files
from bagpiper_jax.dialogue import DialogueError, Message
from bagpiper_jax.files import WriteError
from bagpiper_jax.generation.offline import folder as folders
from bagpiper_jax.generation.offline.folder import ReplyFolder
from bagpiper_jax.generation.offline.records import ClipFolder, Record, RequestFile, read_line
from bagpiper_jax.generation.replies import GeneratorError
from bagpiper_jax.generation.requests import EngineError, PoisonedError
from bagpiper_jax.journal import JournalError
from bagpiper_jax.outcomes import RecordError

WORDS = [{"id": f"r{n}", "text": f"rain {n}"} for n in range(40)]


def test_replies_stand_in_the_order_of_the_input_with_their_sound(tmp_path):
    engine = TellingEngine()
    answer_file(requests_file(tmp_path, WORDS), tmp_path / "out", engine)
    replies = lines_of(tmp_path / "out/replies.jsonl")
    assert [reply["id"] for reply in replies] == [f"r{n}" for n in range(40)]
    for n, reply in enumerate(replies):
        assert (reply["reasoning"], reply["text"]) == ("1. Think.", f"rain {n} | None")
        assert (reply["audio"], reply["seconds"], reply["complete"]) == (f"audio/r{n}.wav", 0.03, True)
        sound = sound_of([Message("user", "text", f"rain {n}")])
        written = audio.read(tmp_path / "out" / reply["audio"], min_seconds=0)
        np.testing.assert_allclose(written, sound, atol=0.51 / 32768)
    assert (tmp_path / "out/rejects.jsonl").read_text() == ""


def test_no_more_is_read_or_asked_than_the_engine_has_use_for(tmp_path):
    """A source of any length: what is read ahead is counted against what is written."""
    read, furthest = [], []

    class Counted(RequestFile):
        def __iter__(self):
            for record in super().__iter__():
                read.append(record)
                furthest.append(len(read) - len(lines_of(tmp_path / "out/replies.jsonl")))
                yield record

    engine = TellingEngine()
    source = Counted(requests_file(tmp_path, [{"id": f"r{n}", "text": "x"} for n in range(200)]))
    answer(source, tmp_path / "out", engine, rows=2)
    assert len(read) == 200 and engine.most == 4
    assert max(furthest) <= 2 * 16 + 1


def test_clips_are_asked_about_with_question_seed_and_beginning(tmp_path):
    clip(tmp_path / "clips/a.wav", 0.5)
    requests = [
        {"id": "plain", "audio": "clips/a.wav"},
        {"id": "asked", "audio": "clips/a.wav", "question": "What is it?", "seed": 7, "begun": "It is "},
        {"id": "sounds", "text": "rain, cut", "seed": 0, "question": None},
    ]
    answer_file(requests_file(tmp_path, requests), tmp_path / "out", TellingEngine())
    plain, asked, sounds = lines_of(tmp_path / "out/replies.jsonl")
    assert (plain["text"], plain["clip"], plain["audio"]) == ("8000 samples | None", "clips/a.wav", None)
    assert asked["text"] == "It is 8000 samples | What is it? | 7"
    assert (sounds["text"], sounds["clip"], sounds["complete"]) == ("rain, cut | 0", None, False)


BAD = {
    "bad_json": [b'{"id": "x", "text": ', b"[1]", b'{"id": "x", "id": "y", "text": "a"}', b"\xff\xfe"],
    "bad_text": [b'{"id": "x", "text": "\\ud800"}', {"id": "x", "text": "a\x00b"},
                 {"id": "x", "audio": "a.wav", "question": "a\x1b"}, {"id": "x", "text": "a", "begun": "\x07"}],
    "bad_id": [{"text": "a"}, {"id": None, "text": "a"}]
    + [{"id": id, "text": "a"} for id in ("", "..", "../out", "a/b", "/a", ".hidden", "a\\b", "a b", "a" * 201)],
    "wrong_type": [{"id": 7, "text": "a"}, {"id": "x", "text": ["a"]}, {"id": "x", "text": "a", "seed": 1.5},
                   {"id": "x", "text": "a", "seed": True}, {"id": "x", "audio": {}}],
    "bad_seed": [{"id": "x", "text": "a", "seed": -1}, {"id": "x", "text": "a", "seed": 2**31}],
    "no_request": [{"id": "x"}, {"id": "x", "text": " "}, {"id": "x", "text": "a", "audio": "a.wav"}],
    "no_audio": [{"id": "x", "text": "a", "question": "what?"}],
    "unknown_field": [{"id": "x", "text": "a", "sead": 1}],
    "repeated_id": [{"id": "first", "text": "a"}],
    "missing_audio": [{"id": "x", "audio": "no.wav"}, {"id": "x", "audio": "clips"}, {"id": "x", "audio": "a" * 999}],
    "outside_audio": [{"id": "x", "audio": name} for name in ("../secret.wav", "clips/../../secret.wav", "link.wav",
                                                              "/etc/passwd", "a\x00.wav")],
    "corrupt_audio": [{"id": "x", "audio": "noise.wav"}],
    "too_long_audio": [{"id": "x", "audio": "long.wav"}],
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_a_counted_rejection_and_the_others_go_on(tmp_path, reason):
    clip(tmp_path / "secret.wav")
    folder = tmp_path / "in"
    for name in ("clips/a.wav", "a.wav"):
        clip(folder / name)
    clip(folder / "long.wav", 31)
    (folder / "noise.wav").write_bytes(b"RIFF" + bytes(range(256)) * 20)
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    first, last = {"id": "first", "text": "rain"}, {"id": "last", "audio": "a.wav"}
    path = requests_file(folder, [first, *BAD[reason], b"  ", last])
    before = files_below(tmp_path)
    said = answer_file(path, tmp_path / "out", TellingEngine())
    assert [reply["id"] for reply in lines_of(tmp_path / "out/replies.jsonl")] == ["first", "last"]
    rejects = lines_of(tmp_path / "out/rejects.jsonl")
    assert [(r["reason"], r["line"]) for r in rejects] == [(reason, 2 + n) for n in range(len(BAD[reason]))]
    assert all(r["file"] == str(path) and r["detail"] and r["remedy"] for r in rejects)
    assert f"{reason} {len(rejects)}" in said and "2 replies" in said
    after = files_below(tmp_path)
    names = {"replies.jsonl", "rejects.jsonl", "generate.json", "audio/first.wav"}
    assert after.keys() - before.keys() == {f"out/{name}" for name in names}
    assert {name: after[name] for name in before} == before


_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3))
_FIELDS = st.sampled_from(["id", "text", "audio", "question", "seed", "begun", "other"])


@given(st.binary(max_size=60) | st.dictionaries(_FIELDS, _VALUES).map(lambda x: json.dumps(x).encode()))
def test_whatever_a_line_holds_it_is_a_request_with_a_safe_name_or_a_fault(line):
    read = read_line(Path("/nowhere/requests.jsonl"), 3, line)
    assert (read.record is None) != (read.fault is None) and read.line == 3
    if read.record is not None:
        assert os.path.basename(read.record.id) == read.record.id and files.is_within("/out", read.record.id)
    else:
        assert read.fault.reason and not read.fault.reason.startswith("error_")


@pytest.mark.parametrize(
    "fault, reason",
    [
        (EngineError("raise context"), "too_long"),
        (PoisonedError("no numbers"), "poisoned"),
        (GeneratorError("name a codec"), "not_answerable"),
        (DialogueError("message 0 is empty"), "bad_request"),
        (audio.AudioError("not_finite", "the sound", "NaN"), "not_finite_audio"),
        (RecordError("own", "reason"), "own"),
        (KeyError("anything"), "error_KeyError"),
        (OSError(5, "broken disk"), "error_OSError"),
    ],
)
def test_a_request_that_the_engine_ends_is_a_rejection(tmp_path, fault, reason):
    engine = TellingEngine(faults={"rain 3": fault})
    answer_file(requests_file(tmp_path, WORDS[:8]), tmp_path / "out", engine)
    (reject,) = lines_of(tmp_path / "out/rejects.jsonl")
    assert (reject["reason"], reject["line"], reject["id"]) == (reason, 4, "r3") and reject["detail"]
    assert len(lines_of(tmp_path / "out/replies.jsonl")) == 7


def test_silence_where_sound_was_asked_for_is_a_rejection(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_helpers.sound_of", lambda dialogue: np.zeros(0, np.float32))
    answer_file(requests_file(tmp_path, WORDS[:1]), tmp_path / "out", TellingEngine())
    (reject,) = lines_of(tmp_path / "out/rejects.jsonl")
    assert reject["reason"] == "no_sound" and "another seed" in reject["detail"]
    assert not list((tmp_path / "out/audio").iterdir())


def test_a_full_disk_ends_the_job(tmp_path):
    engine = TellingEngine(faults={"rain 3": WriteError("cannot write: No space left on device")})
    with pytest.raises(WriteError):
        answer_file(requests_file(tmp_path, WORDS), tmp_path / "out", engine)
    assert [reply["id"] for reply in lines_of(tmp_path / "out/replies.jsonl")] == ["r0", "r1", "r2"]
    assert engine.inside == 0, "what was under way was cancelled"


def _without_digest(replies):
    return [{name: value for name, value in reply.items() if name != "asked"} for reply in replies]


@pytest.mark.parametrize("answers", [0, 1, 17, 39])
def test_the_same_command_goes_on_where_it_ended(tmp_path, answers):
    lines = [*WORDS[:20], b"no JSON", *WORDS[20:]]
    path, out = requests_file(tmp_path, lines), tmp_path / "out"
    answer_file(path, tmp_path / "whole", TellingEngine())
    with pytest.raises(RuntimeError, match="the device is lost"):
        answer_file(path, out, TellingEngine(breaks_after=answers))
    # As a kill leaves it: half a line, half a file of a process that is gone, a sound whose line was not written.
    with open(out / "replies.jsonl", "ab") as file:
        file.write(b'{"id": "r39", "ask')
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left = files.temporary_path(out / "audio/r39.wav").name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    (out / "audio" / left).write_bytes(b"RIFF")
    done = len((out / "replies.jsonl").read_bytes().splitlines()) - 1
    (out / f"audio/r{done}.wav").write_bytes(b"RIFF")
    again = TellingEngine()
    answer_file(path, out, again)
    assert len(again.asked) == 40 - done
    assert files_below(out) == files_below(tmp_path / "whole")
    once_more = TellingEngine()
    assert "0 replies, 40 of before" in answer_file(path, out, once_more)
    assert not once_more.asked and files_below(out) == files_below(tmp_path / "whole")


def test_a_reply_whose_sound_is_gone_is_made_again(tmp_path):
    path, out = requests_file(tmp_path, WORDS[:4]), tmp_path / "out"
    answer_file(path, out, TellingEngine())
    before = files_below(out)
    (out / "audio/r1.wav").unlink()
    (out / "audio/r2.wav").write_bytes(b"")  # as a power cut leaves it
    again = TellingEngine()
    answer_file(path, out, again)
    assert again.asked == ["rain 1 | None", "rain 2 | None"]
    after = files_below(out)
    assert sorted(after.pop("replies.jsonl").splitlines()) == sorted(before.pop("replies.jsonl").splitlines())
    assert after == before


def test_more_lines_are_answered_and_changed_ones_are_named(tmp_path):
    out = tmp_path / "out"
    clip(tmp_path / "a.wav")
    heard = {"id": "heard", "audio": "a.wav"}
    answer_file(requests_file(tmp_path, [*WORDS[:2], heard]), out, TellingEngine())
    changed = [WORDS[0], {"id": "r1", "text": "snow"}, heard, WORDS[2]]
    clip(tmp_path / "a.wav", 0.7)
    engine = TellingEngine()
    answer_file(requests_file(tmp_path, changed), out, engine)
    assert engine.asked == ["rain 2 | None"]
    rejects = lines_of(out / "rejects.jsonl")
    assert [(r["reason"], r["id"]) for r in rejects] == [
        ("changed_request", "r1"),
        ("changed_request", "heard"),
    ]


def test_replies_to_other_settings_are_not_added_to(tmp_path):
    path, out = requests_file(tmp_path, WORDS[:2]), tmp_path / "out"
    answer_file(path, out, TellingEngine(), settings={"checkpoint": "a", "loop": {"modalities": ()}})
    before = files_below(out)
    with pytest.raises(GeneratorError, match=r"another checkpoint.*--output"):
        answer_file(path, out, TellingEngine(), settings={"checkpoint": "b", "loop": {"modalities": ()}})
    assert files_below(out) == before
    answer_file(path, out, TellingEngine(), settings={"checkpoint": "a", "loop": {"modalities": ()}})


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"mine": 1')
    with pytest.raises(GeneratorError, match="name another folder"):
        ReplyFolder(tmp_path, {})
    assert (tmp_path / "replies.jsonl").read_text() == '{"mine": 1'


def test_one_job_writes_a_folder(tmp_path):
    with ReplyFolder(tmp_path / "out", {}), pytest.raises(JournalError, match="in use"):
        ReplyFolder(tmp_path / "out", {})
    with ReplyFolder(tmp_path / "out", {}):
        pass


def test_a_folder_of_clips_is_asked_the_same(tmp_path):
    for name in ("b.wav", "a.FLAC", "deep/er/c d.wav", ".hidden.wav", ".cache/x.wav"):
        clip(tmp_path / "clips" / name, 0.25)
    (tmp_path / "clips/notes.txt").write_text("no sound")
    clip(tmp_path / "outside.wav")
    (tmp_path / "clips/link.wav").symlink_to(tmp_path / "outside.wav")
    answer(ClipFolder(tmp_path / "clips", "What is it?"), tmp_path / "out", TellingEngine())
    replies = lines_of(tmp_path / "out/replies.jsonl")
    assert [(r["clip"], r["text"]) for r in replies] == [
        (name, "4000 samples | What is it? | None") for name in ("a.FLAC", "b.wav", "deep/er/c d.wav")
    ]
    assert [r["id"] for r in replies[:2]] == ["a.FLAC", "b.wav"] and replies[2]["id"].startswith(
        "deep-er-c-d.wav-"
    )
    rejects = {Path(r["file"]).name: r["reason"] for r in lines_of(tmp_path / "out/rejects.jsonl")}
    assert rejects == {"notes.txt": "corrupt_audio", "link.wav": "outside_audio"}


def test_names_of_any_length_and_letters_name_clips(tmp_path):
    names = ["雨" * 83 + ".wav", "a" * 250 + ".wav", os.fsdecode(b"\xff\xfe.wav")]
    for name in names:
        shutil.copy(clip(tmp_path / "one.wav"), tmp_path / name)
    (tmp_path / "one.wav").unlink()
    reads = list(ClipFolder(tmp_path))
    assert {read.record.audio for read in reads} == set(names)
    assert len({read.id for read in reads}) == 3 and all(len(read.id.encode()) <= 200 for read in reads)


@pytest.mark.parametrize("make", [RequestFile, ClipFolder])
def test_a_source_without_requests_is_refused_at_once(tmp_path, make):
    with pytest.raises(GeneratorError, match=r"no file; name|no files; name"):
        make(tmp_path)


def test_an_input_of_which_nothing_is_answered_leaves_its_rejects(tmp_path):
    path = requests_file(tmp_path, [b"no JSON"])
    with ReplyFolder(tmp_path / "out", {}) as folder:
        assert folder.is_empty
    answer_file(path, tmp_path / "out", TellingEngine(), settings={})
    assert [r["reason"] for r in lines_of(tmp_path / "out/rejects.jsonl")] == ["bad_json"]


def test_a_line_holds_what_the_documentation_says():
    names = {field for field in Record.__dataclass_fields__}
    text = (Path(__file__).parents[2] / "docs/generation.md").read_text(encoding="utf-8")
    for name in [*names, *folders.Answered.__dataclass_fields__]:
        assert f"`{name}`" in text, name
