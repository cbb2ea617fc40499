"""Recordings over 30 s become clips: their parts are the recording, their times follow, and speech stays whole."""

import numpy as np
import pytest
import soundfile
from sound_files import by_ffmpeg
from user_corpus_helpers import CAPTION, build, tone

from bagpiper_jax import audio
from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.corpora import cutting

RATE = audio.SAMPLE_RATE


def annotation(duration, turns=(), sounds=(), **more):
    speakers = [{"id": name} for name in sorted({turn[0] for turn in turns})]
    return {
        "duration": duration,
        "turns": [dict(zip(("speaker", "start", "end", "text"), turn, strict=True)) for turn in turns],
        "speakers": speakers,
        "sounds": [dict(zip(("label", "start", "end"), sound, strict=True)) for sound in sounds],
        **more,
    }


def recording(path, seconds, rate=RATE, quiet=()):
    """A tone whose pitch rises with time, with pauses."""
    times = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * (200 * times + times**2))
    for begin, end in quiet:
        samples[(times >= begin) & (times < end)] *= 0.01
    path.parent.mkdir(exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for part in np.array_split(samples, 50):  # libsndfile's Vorbis encoder crashes at long parts
            file.write(part)
    return samples


@pytest.mark.parametrize("at", ["silence", "windows"])
@pytest.mark.parametrize("seed", range(6))
def test_pieces_cover_the_recording_and_divide_no_turn(at, seed):
    rng = np.random.default_rng(seed)
    total = rng.uniform(4, 30)
    samples = rng.normal(size=round(total * RATE)).astype(np.float32)
    begins = np.sort(rng.uniform(0, total - 1, 5))
    turns = [(b, min(b + rng.uniform(0.1, 1.5), total)) for b in begins]
    spans = cutting.pieces(samples, 3.0, 0.1, turns, at)
    assert spans[0][0] == 0 and spans[-1][1] == len(samples) / RATE
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
    cuts = [end for _, end in spans[:-1]]
    assert not [(cut, turn) for cut in cuts for turn in turns if turn[0] < cut < turn[1]]
    spoken_on = [end - begin for begin, end in cutting._joined(turns)]
    assert max(end - begin for begin, end in spans) <= 3.1 + max(0, max(spoken_on))
    assert min(end - begin for begin, end in spans) >= 0.099


def test_it_is_cut_where_it_is_quiet_and_windows_are_equal():
    samples = np.ones(RATE * 10, np.float32)
    samples[round(3.3 * RATE) : round(3.7 * RATE)] = 0
    assert cutting.pieces(samples, 4.0, 0.1, (), "silence")[0][1] == pytest.approx(3.5, abs=0.11)
    windows = cutting.pieces(samples, 4.0, 0.1, (), "windows")
    assert [round(end - begin, 2) for begin, end in windows] == [3.33, 3.33, 3.33]


@pytest.mark.parametrize(
    "rate, name", [(11_025, "a.wav"), (44_100, "a.flac"), (48_000, "a.ogg"), (22_050, "a.m4a")]
)
def test_a_long_recording_of_any_rate_and_format_becomes_clips_with_their_turns(tmp_path, rate, name):
    source = tmp_path / "source" / name
    if name.endswith("m4a"):
        samples = recording(tmp_path / "source" / "plain.wav", 70, rate, quiet=[(25, 27), (49, 50)])
        source.write_bytes(by_ffmpeg(samples.astype(np.float32), "ipod", "aac", rate))
    else:
        recording(source, 70, rate, quiet=[(25, 27), (49, 50)])
    told = annotation(
        70,
        [("A", 1, 20, "one two"), ("B", 30, 48.5, "three four"), ("A", 55, 69, "five")],
        [("rain", 10, 60)],
        acoustics={"room": "a hall"},
    )
    clips, rejects = build(tmp_path, [{"id": "long", "audio": name, "annotation": told}])
    assert not rejects and [clip.id for clip in clips] == ["long-000", "long-001", "long-002"]
    assert [clip.annotation["turns"][0]["text"] for clip in clips] == ["one two", "three four", "five"]
    assert clips[0].start == 0 and clips[-1].end == pytest.approx(70, abs=0.1)
    assert 25 <= clips[0].end <= 27 and 49 <= clips[1].end <= 50
    whole = audio.read(source, max_seconds=100)
    for clip in clips:
        heard = audio.read(tmp_path / "out" / clip.audio)
        part = whole[round(clip.start * RATE) : round(clip.end * RATE)]
        np.testing.assert_allclose(heard, part / max(1, np.abs(whole).max()), atol=1e-4)
        described = AudioAnnotation.from_json(clip.annotation)  # which checks its times
        assert described.duration == pytest.approx(clip.duration) and clip.duration <= 30
        for turn, before in zip(
            described.turns, [t for t in told["turns"] if t["text"] == described.turns[0].text], strict=True
        ):
            assert turn.start + clip.start == pytest.approx(before["start"])
        assert f'"{described.turns[0].text}"' in clip.caption.replace("“", '"').replace("”", '"').lower()
        assert [s.label for s in described.sounds] == ["rain"] and described.acoustics.room == "a hall"
    assert len({clip.group for clip in clips}) == len({clip.split for clip in clips}) == 1


def test_start_and_end_take_a_part_and_the_annotation_follows(tmp_path):
    samples = recording(tmp_path / "source" / "a.wav", 40, 8_000)
    told = annotation(40, [("A", 12, 14, "hello"), ("B", 30, 31, "bye")], [("bell", 11, 35)])
    record = {"id": "x", "audio": "a.wav", "start": 11.5, "end": 20.25, "annotation": told}
    clips, rejects = build(
        tmp_path, [record, {**record, "id": "y", "start": 29, "end": None, "caption": CAPTION}]
    )
    assert not rejects
    x, y = clips
    assert (x.start, x.end, x.duration) == (11.5, 20.25, 8.75) and (y.start, y.end) == (29, 40)
    assert [(t["start"], t["end"]) for t in x.annotation["turns"]] == [(0.5, 2.5)] and len(
        x.annotation["speakers"]
    ) == 1
    assert [(s["start"], s["end"]) for s in x.annotation["sounds"]] == [(0, 8.75)]
    assert "bye" not in x.caption and y.caption == CAPTION
    heard = audio.read(tmp_path / "out" / x.audio)
    expected = audio.resample(samples.astype(np.float32), 8_000, RATE)[
        round(11.5 * RATE) : round(20.25 * RATE)
    ]
    np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_captions_with_times_are_clips_of_their_own(tmp_path):
    recording(tmp_path / "source" / "a.wav", 50)
    captions = [[0, 12.5, "A low tone rises."], [12.5, 40, "It rises further."]]
    clips, rejects = build(tmp_path, [{"id": "x", "audio": "a.wav", "captions": captions, "domain": "music"}])
    assert not rejects and [(c.start, c.end, c.caption) for c in clips] == [tuple(each) for each in captions]
    assert [c.id for c in clips] == ["x-000", "x-001"] and len({c.split for c in clips}) == 1


def test_a_caption_alone_is_cut_only_if_it_holds_for_every_part(tmp_path):
    recording(tmp_path / "source" / "a.wav", 40)
    record = {"id": "x", "audio": "a.wav", "caption": CAPTION}
    clips, rejects = build(tmp_path, [record, {"id": "t", "text": "A text."}])
    assert len(clips) == 1 and rejects[0]["reason"] == "too_long_audio"
    assert "start and end" in rejects[0]["remedy"] and "captions_hold" in rejects[0]["remedy"]
    clips, rejects = build(tmp_path, [record], captions_hold=True, cut="windows")
    assert (
        not rejects
        and [c.caption for c in clips] == [CAPTION] * 2
        and [c.duration for c in clips] == [20, 20]
    )


def test_audio_of_which_nothing_is_said_is_cut_for_those_who_caption_it(tmp_path):
    recording(tmp_path / "source" / "a.wav", 70, 8_000)
    clips, rejects = build(tmp_path, [{"id": "x", "audio": "a.wav"}], uncaptioned=True, cut="windows")
    assert not rejects and [round(c.duration, 2) for c in clips] == [23.33, 23.33, 23.33]
    assert all(c.caption is None and c.annotation is None for c in clips)


def test_a_part_that_is_talked_about_does_not_cut_what_is_answered(tmp_path):
    recording(tmp_path / "source" / "a.wav", 40, 8_000)
    dialogue = [["user", "audio", "a.wav"], ["assistant", "audio", "good.wav"]]
    record = {"id": "x", "audio": "a.wav", "start": 20, "end": 25, "dialogue": dialogue}
    clips, rejects = build(tmp_path, [record])
    assert not rejects and [(c.duration, c.start) for c in clips] == [(5, 20), (0.5, None)]


def test_what_cannot_be_cut_is_rejected_by_its_piece_alone(tmp_path):
    recording(tmp_path / "source" / "a.wav", 100)
    samples = np.zeros(RATE * 100, np.float32)
    samples[: 70 * RATE] = tone(70)
    soundfile.write(tmp_path / "source" / "b.wav", samples, RATE)
    endless = annotation(100, [("A", 0, 20, "short"), ("A", 30, 75, "on and on"), ("A", 80, 90, "end")])
    clips, rejects = build(
        tmp_path,
        [
            {"id": "a", "audio": "a.wav", "annotation": endless},
            {"id": "b", "audio": "b.wav", "annotation": annotation(100, sounds=[("hum", 0, 30)])},
        ],
    )
    reasons = {(r["id"], r["reason"]) for r in rejects}
    assert [reason for name, reason in reasons if name.startswith("a-")].count("too_long_turn") == 1
    assert {t["text"] for c in clips for t in c.annotation.get("turns", ())} == {"short", "end"}
    assert {reason for name, reason in reasons if name.startswith("b-")} == {
        "nothing_annotated",
        "silent_audio",
    }


FAULTS = {
    "end first": ({"start": 3, "end": 2}, "bad_times"),
    "negative": ({"start": -1}, "bad_times"),
    "text": ({"end": "3"}, "bad_times"),
    "beyond": ({"start": 39, "end": 45}, "part_out_of_range"),
    "across a turn": ({"start": 5, "end": 12.5, "annotation": annotation(40, [("A", 12, 14, "a")])}, "cut_turn"),
    "of the part": ({"end": 5, "annotation": annotation(5, sounds=[("bell", 1, 2)])}, "duration_mismatch"),
    "no audio": ({"audio": None, "start": 1, "caption": None, "text": "a"}, "no_audio"),
    "captions twice": ({"captions": [[0, 1, "a"]]}, "bad_captions"),
    "captions of two": ({"captions": [[0, "a"]], "caption": None}, "bad_captions"),
    "blank": ({"captions": [[0, 1, " "]], "caption": None}, "blank_caption"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_times_that_cannot_be_meant_are_named(tmp_path, name):
    fields, reason = FAULTS[name]
    recording(tmp_path / "source" / "a.wav", 40, 4_000)
    record = {"id": "x", "audio": "a.wav", "caption": CAPTION, **fields}
    _, rejects = build(tmp_path, [record, {"id": "t", "text": "A text."}])
    assert [r["reason"] for r in rejects] == [reason]


def test_an_interrupted_build_takes_pieces_again_and_never_another_records_file(tmp_path):
    recording(tmp_path / "source" / "a.wav", 40)
    records = [
        {"id": "a", "audio": "a.wav", "annotation": annotation(40, sounds=[("hum", 0, 40)])},
        {"id": "a-000", "audio": "good.wav", "caption": CAPTION},
    ]
    clips, rejects = build(tmp_path, records)
    assert [(r["id"], r["reason"]) for r in rejects] == [("a-000", "duplicate_id")]
    files = {c.id: tmp_path / "out" / c.audio for c in clips}
    before = {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in files.items()}
    files["a-001"].unlink()
    again, _ = build(tmp_path, records)
    assert again == clips and files["a-001"].read_bytes() == before["a-001"][1]
    assert files["a-000"].stat().st_mtime_ns == before["a-000"][0]
