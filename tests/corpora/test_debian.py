"""The Debian corpus: what packages say is read right, what is said of audio is measured."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from debian_helpers import recording, tone, voice, write_g722
from places import FIXTURES

from bagpiper_jax import files
from bagpiper_jax.captions import parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.debian import corpus as building
from bagpiper_jax.corpora.debian import measure, process, recordings, scores
from bagpiper_jax.corpora.debian.annotate import annotate
from bagpiper_jax.corpora.debian.packages import Package
from bagpiper_jax.corpora.debian.recordings import Recording

NAMES = json.loads((FIXTURES / "debian_sound_names.json").read_text())


KINDS = ("sound", "percussion", "music", "skip")


def test_transcripts_lose_remarks_but_no_words():
    text = "; Comment: not a prompt\n\nat-tone: At the tone: exactly...\nbeep: [a beep]\nletters/at: at [@]\n"
    text += "spy: IAX (note: does not say '2')\nno colon here\n"
    assert recordings.parse_transcripts(text) == {
        "at-tone": "At the tone: exactly...", "beep": "", "letters/at": "at", "spy": "IAX",
    }  # fmt: skip


@pytest.mark.parametrize("package", NAMES)
def test_every_file_has_exactly_one_label_and_every_pattern_a_file(package):
    entry = recordings.load_table()[package]
    for name in NAMES[package]:
        found = [label for kind in KINDS for label in recordings.matches(entry.get(kind, {}), name)]
        assert len(found) == 1, (name, found)
        assert len(recordings.matches(entry.get("licences", {}), name)) <= 1, name
        assert len(recordings.matches(entry.get("group", {}), name)) <= 1, name
    for table in (*KINDS, "licences", "group"):
        for pattern in entry.get(table, {}):
            assert any(recordings.matches({pattern: ""}, name) for name in NAMES[package]), (table, pattern)


def test_labels_are_plain_english_and_can_be_read_back():
    for package in NAMES:
        entry = recordings.load_table()[package]
        for kind in ("sound", "percussion", "music"):
            for label in entry.get(kind, {}).values():
                assert re.fullmatch(r"(3D )?[a-z -]+", label.removeprefix("a 3D ")), label
                made = recording(label=label, kind=kind)
                measured = measure.Measurement(2.0, 0.1, 1.9, -22.0, None, 900.0, None)
                annotation = annotate(made, measured)
                caption = building.describe(annotation, "flowing", np.random.default_rng(0))
                assert parse_caption(caption).kinds == facts(annotation).kinds, caption


def test_drums_and_instruments_count_as_music():
    entry = recordings.load_table()["sonic-pi-samples"]
    instruments = [n for n in NAMES["sonic-pi-samples"] if re.match(r"(bd|sn|drum|tabla|elec|guit|bass)_", n)]
    assert len(instruments) > 100
    for name in instruments:
        kind, label = recordings.classify(entry, name)
        assert recording(kind=kind, label=label).domain == "music", name


def test_a_file_unknown_to_the_table_is_counted(tmp_path):
    (tmp_path / "default_new_thing.ogg").touch()
    (item,) = recordings.sounds(Package("minetest-data", "9", "", tmp_path))
    assert isinstance(item, Reject) and (item.reason, item.id) == ("no_label", "default_new_thing")


def test_activity_level_and_background_are_measured():
    generator = np.random.default_rng(0)
    samples = 0.001 * generator.standard_normal(32_000).astype(np.float32)
    samples[8_000:24_000] += tone(1.0)
    found = measure.measure(samples)
    assert found.start == pytest.approx(0.5, abs=0.03) and found.end == pytest.approx(1.5, abs=0.03)
    assert found.level == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.3)
    assert found.floor == pytest.approx(-60.0, abs=0.5)
    assert found.centroid == pytest.approx(440, abs=20)
    assert measure.measure(tone(1.0)).floor is None, "without pauses there is no background to measure"


@pytest.mark.parametrize("pitch", [80.0, 110.0, 147.0, 220.0, 330.0])
def test_pitch_has_no_octave_errors(pitch):
    assert measure.pitch(voice(1.0, pitch)) == pytest.approx(pitch, rel=0.02)


def test_pitch_of_noise_of_little_and_of_a_wide_glide_is_unknown():
    generator = np.random.default_rng(0)
    assert measure.pitch(generator.standard_normal(16_000).astype(np.float32)) is None
    assert measure.pitch(voice(0.1, 150.0)) is None
    steps = np.concatenate([voice(0.25, p) for p in (80.0, 120.0, 240.0, 360.0)])
    assert measure.pitch(steps) is None


def test_captions_tell_only_what_was_measured():
    speech = recording(kind="speech", label="Hello.", voice="it_IT_m_Carlo", language="it")
    measured = measure.Measurement(2.0, 0.2, 1.8, -20.0, None, 500.0, None)
    plain = annotate(speech, measured)
    assert plain.acoustics.noise is None and plain.speakers[0].voice == () and plain.absent == ()
    quiet = annotate(speech, measure.Measurement(2.0, 0.2, 1.8, -20.0, -60.0, 500.0, 100.0))
    assert quiet.acoustics.noise == "a very quiet background" and quiet.speakers[0].voice == ("low-pitched",)
    noisy = annotate(speech, measure.Measurement(2.0, 0.2, 1.8, -20.0, -30.0, 500.0, 200.0))
    assert noisy.acoustics.noise == "a noisy background" and noisy.speakers[0].voice == ("high-pitched",)
    loud = annotate(recording(), measure.Measurement(1.0, 0.0, 1.0, -10.0, None, 5000.0, None))
    assert loud.sounds[0].level == "loud" and loud.acoustics.quality == "bright"


def job(tmp_path: Path, made: Recording) -> process.Assignment:
    return process.Assignment(made, str(tmp_path / "out.flac"), "", 0.2, 30.0, 0)


@pytest.mark.parametrize(
    "samples, reason",
    [
        (tone(0.1), "too_short_audio"),
        (tone(31.0), "too_long_audio"),
        (1e-5 * tone(1.0), "silent_audio"),
        (None, "corrupt_audio"),
    ],
)
def test_useless_recordings_are_named(tmp_path, samples, reason):
    path = tmp_path / "in.wav"
    path.write_bytes(b"no audio") if samples is None else soundfile.write(path, samples, 16_000, "FLOAT")
    result = process.process(job(tmp_path, recording(path=str(path))))
    assert result["reason"] == reason and "in.wav" in result["detail"] and result["remedy"]
    assert not (tmp_path / "out.flac").exists()


def test_an_error_of_any_kind_is_counted_by_type_and_a_full_disk_is_not(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "in.wav", tone(1.0), 16_000)
    made = job(tmp_path, recording(path=str(tmp_path / "in.wav")))
    with monkeypatch.context() as patched:
        patched.setattr(process, "measure", lambda _: 1 / 0)
        assert process.process(made)["reason"] == "error_ZeroDivisionError"
    gone = dataclasses.replace(made, target=str(tmp_path / "in.wav" / "out.flac"))
    with pytest.raises(files.WriteError, match="cannot write .*out.flac"):
        process.process(gone)


def test_g722_is_decoded_and_an_empty_file_named(tmp_path):
    write_g722(tmp_path / "a.g722", tone(1.0))
    samples = process.load(recording(path=str(tmp_path / "a.g722")))
    assert len(samples) == pytest.approx(16_000, abs=400)
    peak = np.argmax(np.abs(np.fft.rfft(samples[:15_000]))) * 16_000 / 15_000
    assert abs(peak - 440) < 3 and np.abs(samples).max() == pytest.approx(0.3, abs=0.05)
    (tmp_path / "b.g722").touch()
    assert process.process(job(tmp_path, recording(path=str(tmp_path / "b.g722"))))["reason"] == "empty_audio"


def test_excerpts_lie_apart_within_the_track(tmp_path):
    ramp = np.repeat(np.linspace(-0.9, 0.9, 60 * 8_000, dtype=np.float32)[:, None], 2, 1)
    soundfile.write(tmp_path / "A Track.wav", ramp, 8_000)
    (tmp_path / "A Track.wav").rename(tmp_path / "A Track.ogg")  # content, not suffix, tells the format
    found = list(
        recordings.tracks(
            Package("m", "1", "", tmp_path), "electronic", "X", 4, 6.0, np.random.default_rng(0)
        )
    )
    starts = []
    for item in found:
        samples = process.load(item)
        assert len(samples) == 96_000
        starts.append((samples[1000] + 0.9) / 1.8 * 60)
    assert all(0 < later - earlier for earlier, later in zip(starts, starts[1:], strict=False))
    assert starts[0] >= 0 and starts[-1] <= 54.1
    assert len({item.group for item in found}) == 1


def test_a_score_tells_its_key_tempo_and_instruments(monkeypatch):
    corpus = pytest.importorskip("music21.corpus", reason="pip install 'bagpiper_jax[debian]' brings music21")
    rendered = []
    monkeypatch.setattr(scores, "_synthesize", lambda *a: rendered.append(a) or np.zeros(160_000, np.float32))
    path = next(Path(corpus.__file__).parent.glob("bach/bwv66.6.*"))
    made = recording("b", "score", str(path), group="bach/bwv66.6", label="baroque", seconds=10.0)
    first, again = scores.render(made, "", 0), scores.render(made, "", 0)
    assert first.key == "F sharp minor"
    assert first.genre == "baroque" and first.instruments and 66 <= first.tempo < 100
    assert rendered[0] == rendered[1] and first.tempo == again.tempo
    parts, programs, tempo, _ = rendered[0]
    assert len(parts) == len(programs) == 4
    assert all(
        0 <= onset < 10.0 * tempo / 60 and 30 < pitch < 90 for part in parts for onset, _, pitch in part
    )
