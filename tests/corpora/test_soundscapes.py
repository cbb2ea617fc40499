"""The corpus of soundscapes: what is planned, what sounds, and what is said of it, each measured or counted anew."""

import collections
import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from places import REPOSITORY

from bagpiper_jax import audio
from bagpiper_jax.captions import AudioAnnotation, describe, parse_caption
from bagpiper_jax.captions.lexicon import ROOM_SECONDS
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import questions
from bagpiper_jax.corpora.contradictions import judge_caption, judge_dialogue
from bagpiper_jax.corpora.soundscapes import mixing, plans, rooms, sentences, voices
from bagpiper_jax.corpora.soundscapes.build import (
    SoundscapesCorpusConfig,
    build_soundscapes_corpus,
    draw_plans,
    render_scenes,
)
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import Clip, read_manifest

TINY = dict(train_scenes=6, validation_scenes=2, test_scenes=2, workers=1)


@pytest.fixture(scope="module")
def drawn():
    """Splits of plans: 400 scenes of training, 60 held out."""
    found = collections.defaultdict(list)
    for split, _, scene in draw_plans(SoundscapesCorpusConfig("", 0, 400, 20, 40)):
        found[split].append(scene)
    return found


def noise_bursts(rng, text, voice):
    """In the place of sentences, which take longest to make."""
    return rng.standard_normal(round(rng.uniform(0.9, 1.6) * audio.SAMPLE_RATE))


@pytest.fixture(scope="module")
def mixed(drawn):
    """(plan, parts, mix, annotation) of forty scenes of training, noise in the place of speech."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voices, "say", noise_bursts)
        return [
            (
                scene,
                mixing.take_apart(scene, np.random.default_rng(0)),
                *mixing.render(scene, np.random.default_rng(0)),
            )
            for scene in drawn["train"][:40]
        ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    directory = tmp_path_factory.mktemp("soundscapes")
    return build_soundscapes_corpus(SoundscapesCorpusConfig(str(directory), **TINY))


def decibels(wave):
    return 20 * np.log10(np.sqrt(np.mean(np.square(wave))))


def pairs(scene):
    """(subject, object) of every sentence of a scene, read off its words."""
    said = (re.findall(r"\w+", event.name.lower()) for event in scene.events if event.domain == "speech")
    return {(words[1], words[5]) for words in said}


def test_held_out_scenes_are_new_combinations(drawn):
    held_out = [*drawn["validation"], *drawn["test"]]
    assert {split: len(scenes) for split, scenes in drawn.items()} == {
        "train": 400, "validation": 20, "test": 40,
    }  # fmt: skip
    assert len({scene.combination for scene in held_out}) == len(held_out)
    trained = {scene.layout for scene in drawn["train"]}
    for scene in held_out:
        assert scene.layout not in trained or scene.is_speech_alone
    trained_pairs = set().union(*map(pairs, drawn["train"]))
    held_out_pairs = set().union(*map(pairs, held_out))
    assert held_out_pairs and not held_out_pairs & trained_pairs
    # Every word of a held-out sentence is known from others.
    assert {s for s, _ in held_out_pairs} <= {s for s, _ in trained_pairs}
    assert {o for _, o in held_out_pairs} <= {o for _, o in trained_pairs}


def test_scenes_have_what_the_easy_ones_lack(drawn):
    scenes = drawn["train"]
    assert 0.2 < np.mean([any(scene.over) for scene in scenes]) < 0.6
    assert 0.4 < np.mean([scene.background is not None for scene in scenes]) < 0.6
    voices_heard = [{e.voice for e in scene.events if e.voice} for scene in scenes]
    assert np.mean([len(found) > 1 for found in voices_heard]) > 0.1
    everything = [s for s in scenes if s.domain == "mixed" and s.background]
    assert any(
        {e.domain for e in (*s.events, s.background)} == {"speech", "sound", "music"} for s in everything
    )
    assert {scene.room for scene in scenes} == set(ROOM_SECONDS)
    assert {scene.noise for scene in scenes} == set(plans.NOISE_SNRS)
    for scene in scenes:
        for before, after in itertools.pairwise(scene.over):
            assert not (before and after), "an event overlaps with one neighbour at most"


def test_parts_lie_as_far_apart_as_the_annotation_says(mixed):
    for scene, parts, _, annotation in mixed:
        # Sentences and melodies are at the level that backgrounds and noise are told by.
        speech = [
            decibels(wave[slice(*span)])
            for event, wave, span in zip(scene.events, parts.events, parts.spans, strict=True)
            if event.level == "medium"
        ]
        for level in speech:
            assert level - decibels(parts.noise) == pytest.approx(annotation.acoustics.snr, abs=1e-6)
            for under in annotation.background():
                assert level - decibels(parts.background) == pytest.approx(under.snr, abs=1e-6)
        assert annotation.background() or not parts.background.any()


def test_what_is_heard_before_the_first_event_is_background_and_noise(mixed):
    """Measured in the mix itself: a hiss 18 or 30 dB below what is at the level of speech."""
    measured = 0
    for scene, _, samples, annotation in mixed:
        if scene.background or scene.noise.startswith("hardly") or scene.over[1:2] == (True,):
            continue
        if scene.events[0].level != "medium":
            continue
        first = annotation.events()[0]
        start, until = (round(seconds * audio.SAMPLE_RATE) for seconds in (first.start, first.end))
        told = annotation.acoustics.snr
        assert decibels(samples[start:until]) - decibels(samples[: start - 80]) == pytest.approx(
            told, abs=0.5
        )
        measured += 1
    assert measured >= 3


def test_events_overlap_where_the_plan_says(mixed):
    for scene, _, samples, annotation in mixed:
        heard = annotation.foreground()
        assert [e.start for e in heard] == sorted(e.start for e in heard)
        for (before, event), over in zip(itertools.pairwise(heard), scene.over[1:], strict=True):
            assert event.end > before.end
            shared = before.end - event.start
            assert shared > 0.2 if over else shared < 0
        assert len(samples) / audio.SAMPLE_RATE == pytest.approx(annotation.duration, abs=1e-3)


def test_nothing_clips(mixed):
    for _, _, samples, _ in mixed:
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 0.9501
    loud = mixing.Parts((np.full(8, 0.9), np.full(8, 0.9)), ((0, 8), (0, 8)), np.full(8, 0.2), np.zeros(8))
    assert loud.mix == pytest.approx(np.full(8, 0.95))


def test_captions_tell_the_annotation_and_read_back(mixed):
    for number, (scene, _, _, annotation) in enumerate(mixed):
        assert AudioAnnotation.from_json(json.loads(json.dumps(annotation.to_json()))) == annotation
        caption = describe(annotation, rng=np.random.default_rng(number))
        assert parse_caption(caption) == facts(annotation), caption
        assert parse_caption("Caption of the audio: " + caption) == facts(annotation)
        rows = parse_caption(describe(annotation, "attributes"))
        without_times = [dataclasses.replace(event, start=None) for event in rows.events]
        assert tuple(without_times) == facts(annotation).events
        assert (rows.room, rows.noise) == (scene.room, scene.noise)
        assert [(e.kind, e.strength) for e in rows.background] == [
            (e.kind, e.strength) for e in facts(annotation).background
        ]
        assert not judge_caption(caption, annotation).faults


def answers(annotation):
    return {asked.question: asked.answer for asked in questions.questions(annotation)}


def test_answers_are_what_the_plan_says(mixed):
    for scene, _, _, annotation in mixed:
        told = answers(annotation)
        spoken = [event for event in scene.events if event.domain == "speech"]
        if len({event.voice for event in spoken}) > 1:
            assert told["Which voice speaks first?"] == f"the {spoken[0].voice} voice."
            for event in spoken:
                assert told[f'Which voice says "{event.name}"?'] == f"the {event.voice} voice."
                assert f'"{event.name}"' in told[f"What does the {event.voice} voice say?"]
        else:
            assert "Which voice speaks first?" not in told
        assert told["How many events overlap?"] == {0: "None.", 1: "Two."}[sum(scene.over)]
        behind = f"{scene.background.kind}." if scene.background else "Nothing."
        assert told["What is heard in the background?"].lower() == behind.lower()
        assert ("How is the background heard?" in told) == bool(scene.background)
        assert told["How noisy is the recording?"].lower() == f"{scene.noise}."
        assert told["Is there an echo?"] == ("Yes." if scene.room == "an echoing hall" else "No.")
        aside = ", the background aside?" if scene.background else "?"
        assert told[f"What is heard first{aside}"].lower() == f"first comes {scene.events[0].kind}."
        assert told[f"How many events are heard{aside}"] == ("One.", "Two.", "Three.")[len(scene.events) - 1]


def clip_of(annotation, seed=0):
    caption = describe(annotation, rng=np.random.default_rng(seed))
    return Clip("c", "train", "mixed", caption=caption, annotation=annotation.to_json())


def test_dialogues_contradict_nothing_and_are_judged(mixed):
    for number, (_, _, _, annotation) in enumerate(mixed):
        clip = clip_of(annotation, number)
        for dialogue in questions.understanding_dialogues(clip, np.random.default_rng(number)):
            verdict = judge_dialogue([tuple(message) for message in dialogue])
            assert verdict.judged == 1 and not verdict.faults, (dialogue, verdict)
            _, (_, _, question), (role, modality, reply) = dialogue
            if question == "Is there an echo?":
                wrong = reply.replace("\n\nNo.", "\n\nYes.")
                wrong = wrong if wrong != reply else reply.replace("\n\nYes.", "\n\nNo.")
                told = judge_dialogue([*map(tuple, dialogue[:2]), (role, modality, wrong)])
                assert [fault.reason for fault in told.faults] == ["contradicts_caption"]


def test_requests_tell_overlap_background_and_room(mixed):
    seen = set()
    for number, (scene, _, _, annotation) in enumerate(mixed):
        for style in questions.REQUEST_STYLES:
            rng = np.random.default_rng(number)
            (_, _, request), (_, _, reply) = questions.planning_dialogue(clip_of(annotation), rng, style)
            assert ("over it" in request) == any(scene.over)
            assert ("one after another" in request or "one by one" in request) <= (not any(scene.over))
            assert ("In the background" in request) == bool(scene.background)
            assert (scene.room in request and scene.noise in request) == (style == "realistic")
            assert all(event.name in request for event in scene.events if event.domain == "speech")
            assert parse_caption(questions.final_answer(reply)) == facts(annotation)
            seen.add((style, any(scene.over), bool(scene.background)))
    assert len(seen) == 8


def test_the_easy_scenes_are_asked_what_they_were():
    """Without the numbers of a mix there are no questions about it: numbers of the easy set compare."""
    plain = AudioAnnotation(2.0)
    told = dataclasses.replace(plain, acoustics=dataclasses.replace(plain.acoustics, room="an echoing hall"))
    assert answers(plain) == answers(told) == {}


def test_a_hall_dies_away_as_fast_as_it_says():
    """Schroeder's backward integration of the impulse response, between 5 and 35 dB below its beginning."""
    response = rooms.impulse_response(np.random.default_rng(0), 1.2)[241:]
    left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))
    first, last = np.argmax(left < -5), np.argmax(left < -35)
    assert 2 * (last - first) / audio.SAMPLE_RATE == pytest.approx(1.2, rel=0.05)
    wave = np.random.default_rng(1).standard_normal(500)
    assert np.array_equal(rooms.heard_in(wave, rooms.impulse_response(np.random.default_rng(0), 0.0)), wave)
    assert rooms.heard_in(wave, response[:300]) == pytest.approx(np.convolve(wave, response[:300]))


def test_sentences_are_new_in_combination_and_few_are_held_out():
    rng = np.random.default_rng(0)
    for held_out in (False, True):
        found = {sentences.draw(rng, held_out) for _ in range(300)}
        assert {sentence.held_out for sentence in found} == {held_out}
        assert len({sentence.text for sentence in found}) == len(found) > 250
    assert sentences.Sentence("doctor", "sells", "red", "table", "").text == "The doctor sells the red table."


def test_a_built_corpus_is_the_same_however_its_work_is_divided(corpus, tmp_path):
    (tmp_path / "audio").mkdir()
    planned = draw_plans(SoundscapesCorpusConfig(str(tmp_path), **TINY))
    again = render_scenes([planned[1], planned[-1]], str(tmp_path), 0)
    built = {clip.id: clip for clip in read_manifest(corpus)}
    assert len(built) == 10 and all(clip.licence for clip in built.values())
    for clip in again:
        assert built[clip.id] == clip
        assert (corpus / clip.audio).read_bytes() == (tmp_path / clip.audio).read_bytes()
        samples = audio.read(corpus / clip.audio)
        assert len(samples) / audio.SAMPLE_RATE == clip.duration
    summary = json.loads((corpus / "corpus.json").read_text())
    assert summary["corpus"] == "soundscapes" and summary["versions"]["hibari-tts"]


def test_the_job_reads_gin(monkeypatch):
    built = []
    monkeypatch.setitem(build_corpus.BUILDERS, SoundscapesCorpusConfig, built.append)
    build_corpus.main([
        f"--gin_file={REPOSITORY / 'gin/corpora/soundscapes.gin'}", "--gin.SoundscapesCorpusConfig.seed=7",
    ])  # fmt: skip
    assert built[0].seed == 7 and built[0].train_scenes == 2000
