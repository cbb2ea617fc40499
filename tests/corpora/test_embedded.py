import collections
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from places import REPOSITORY

from bagpiper_jax import audio, captions
from bagpiper_jax.captions import lexicon, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.embedded import documents, music, scenes, sounds, voice
from bagpiper_jax.corpora.embedded.build import (
    EmbeddedCorpusConfig,
    build_embedded_corpus,
    draw_plans,
    render_scenes,
)
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import read_manifest

SMALL = dict(train_scenes=40, validation_scenes=8, test_scenes=8, text_documents=20, workers=1)


def build(directory, **changes):
    return build_embedded_corpus(EmbeddedCorpusConfig(directory=str(directory), **{**SMALL, **changes}))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    return build(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def clips(corpus):
    return [clip for clip in read_manifest(corpus) if clip.domain != "text"]


def fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(directory)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_same_seed_gives_same_bytes_whatever_the_workers(corpus, tmp_path):
    assert fingerprint(build(tmp_path / "again", workers=2)) == fingerprint(corpus)
    assert fingerprint(build(tmp_path / "other", seed=1)) != fingerprint(corpus)


def test_counts_and_provenance(corpus):
    all_clips = list(read_manifest(corpus))
    assert collections.Counter(clip.split for clip in all_clips) == {"train": 58, "validation": 10, "test": 8}
    assert len({clip.id for clip in all_clips}) == len(all_clips)
    assert all(clip.licence for clip in all_clips)
    summary = json.loads((corpus / "corpus.json").read_text())
    assert summary["settings"]["seed"] == 0 and summary["versions"]["hibari-tts"]
    assert summary["clips_by_split"]["test"] == 8


def test_audio_is_what_the_manifest_says(corpus, clips):
    for clip in clips:
        samples = audio.read(corpus / clip.audio)
        assert len(samples) / 16_000 == clip.duration
        assert np.abs(samples).max() > 0.03


def test_captions_tell_the_annotation(clips):
    for clip in clips:
        annotation = captions.AudioAnnotation.from_json(clip.annotation)
        assert parse_caption(clip.caption) == facts(annotation)
        assert 1 <= len(annotation.events()) <= scenes.MAX_EVENTS
        assert "speech" in annotation.absent or annotation.turns


def test_events_sound_when_the_annotation_says(corpus, clips):
    """In every stated span there is far more energy than in the gaps."""
    for clip in clips:
        samples = audio.read(corpus / clip.audio)
        silent = np.ones(len(samples), bool)
        loudness = []
        for event in captions.AudioAnnotation.from_json(clip.annotation).events():
            span = slice(round(event.start * 16_000), round(event.end * 16_000))
            silent[span] = False
            loudness.append(np.std(samples[span]))
        silent &= ~np.convolve(~silent, np.ones(33), "same").astype(bool)  # stated times are rounded
        assert min(loudness) > 4 * np.std(samples[silent]), clip.id


def test_a_scene_that_fails_costs_itself_alone(tmp_path, monkeypatch):
    plans = [item for item in draw_plans(EmbeddedCorpusConfig()) if {e.domain for e in item[2]} == {"sound"}][
        :3
    ]
    render = scenes.render

    def failing(plan, *arguments):
        if plan is plans[1][2]:
            raise ZeroDivisionError("x")
        return render(plan, *arguments)

    monkeypatch.setattr(scenes, "render", failing)
    made = render_scenes(plans, None, str(tmp_path), 0)
    assert [type(item).__name__ for item in made] == ["Clip", "Reject", "Clip"]
    assert made[1].reason == "error_ZeroDivisionError" and made[1].id == f"train-{plans[1][1]:05d}"


def test_held_out_scenes_are_new_combinations():
    config = EmbeddedCorpusConfig()
    plans = collections.defaultdict(list)
    for split, _, plan in draw_plans(config):
        plans[split].append(plan)
    assert {split: len(found) for split, found in plans.items()} == {
        "train": 2000, "validation": 64, "test": 128,
    }  # fmt: skip
    trained = {tuple(event.kind for event in plan) for plan in plans["train"]}
    for plan in (*plans["validation"], *plans["test"]):
        if len(plan) > 1:
            assert tuple(event.kind for event in plan) not in trained
        else:
            assert plan not in plans["train"]
    held_out = [scenes.combination(plan) for plan in (*plans["validation"], *plans["test"])]
    assert len(set(held_out)) == len(held_out)
    assert {len(plan) for plan in plans["test"]} == {1, 2, 3, 4}
    assert {scenes.domain(plan) for plan in plans["train"]} == {"speech", "sound", "music", "mixed"}


def robust_features(wave, rng):
    """Mean log-mel above a floor 32 dB under the peak, with the mixer's levels and noise."""
    level, floor = scenes._pick(rng, scenes.LEVELS), scenes._pick(rng, scenes.NOISE)
    wave = scenes._at_level(wave, scenes.LEVELS[level])
    wave = wave + rng.standard_normal(len(wave)) * 10 ** (scenes.NOISE[floor] / 20)
    mel = audio.log_mel(wave.astype(np.float32))
    mel = np.maximum(mel, mel.max() - 0.8)
    return np.concatenate([mel.mean(0), np.abs(np.diff(mel[::4], axis=0)).mean(0)])


def centroid_accuracy(make, names, takes=8):
    rng = np.random.default_rng(0)
    features = np.array([[robust_features(make(name, rng), rng) for _ in range(takes)] for name in names])
    centroids, tried = features[:, ::2].mean(1), features[:, 1::2]
    nearest = ((tried[:, :, None] - centroids) ** 2).sum(-1).argmin(-1)
    return (nearest == np.arange(len(names))[:, None]).mean()


def test_sounds_can_be_told_apart():
    def make(name, rng):
        return sounds.SOUNDS[name](rng, round(rng.uniform(0.5, 0.8) * 16_000))

    assert centroid_accuracy(make, list(sounds.SOUNDS)) >= 0.95


def test_instruments_and_keys_can_be_told_apart():
    names = [(instrument, key) for instrument in music.INSTRUMENTS for key in music.KEYS]
    assert centroid_accuracy(lambda name, rng: music.melody(rng, *name, 180.0), names, 16) >= 0.95


def test_words_can_be_told_apart():
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    bank = voice.record_bank()
    names = [(word, shift) for word in voice.WORDS for shift in voice.VOICES]
    # Forty classes, and a mean over time knows nothing of order: chance is 2.5 %.
    assert centroid_accuracy(lambda name, rng: voice.say(rng, bank, *name), names) >= 0.75


def test_every_sound_varies_is_finite_and_lasts():
    for name, synthesise in sounds.SOUNDS.items():
        first, second = (synthesise(np.random.default_rng(seed), 10_000) for seed in (0, 1))
        assert np.isfinite(first).all() and 9000 <= len(first) <= 10_000, name
        assert not np.array_equal(first, second), name


def test_every_sound_has_words():
    assert set(sounds.SOUNDS) == set(lexicon.SOUND_NOUNS) == set(lexicon.SOUND_CUES)


def test_a_melody_begins_and_ends_on_the_tonic():
    for key, tonic in music.KEYS.items():
        wave = music.melody(np.random.default_rng(0), "flute", key, 100.0)
        notes = np.split(wave, music.TEMPOS[100.0])
        for note in (notes[0], notes[-1]):
            spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)), 1 << 17))
            assert spectrum.argmax() * 16_000 / (1 << 17) == pytest.approx(tonic, rel=0.01)


def test_levels_are_as_named():
    rng = np.random.default_rng(0)
    for name, decibels in scenes.LEVELS.items():
        wave = scenes._at_level(rng.standard_normal(8000) * 3, decibels)
        assert 20 * np.log10(np.std(wave)) == pytest.approx(decibels, abs=0.2), name


def test_documents_are_distinct_and_sensible(corpus):
    texts = [clip.text for clip in documents.clips(200, seed=0)]
    assert len(set(texts)) == 200 and all(text.endswith(".") for text in texts)
    held_out = {
        clip.text for clip in read_manifest(corpus) if clip.domain == "text" and clip.split != "train"
    }
    assert len(held_out) == 2


def test_a_missing_voice_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(voice.VoiceError, match=r"pip install 'bagpiper_jax\[quickstart\]'"):
        build(tmp_path)
    assert not (tmp_path / "manifest.jsonl").exists()


def test_another_corpus_is_not_overwritten(tmp_path):
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(CorpusError, match="holds another corpus"):
        build(tmp_path)
    assert (tmp_path / "manifest.jsonl").read_text() == "{}\n"


def test_the_job_reads_gin(tmp_path, monkeypatch):
    built = []
    monkeypatch.setitem(build_corpus.BUILDERS, EmbeddedCorpusConfig, built.append)
    gin = REPOSITORY / "gin/corpora/embedded.gin"
    build_corpus.main([f"--gin_file={gin}", "--gin.EmbeddedCorpusConfig.seed=7"])
    assert built[0].seed == 7 and built[0].train_scenes == 2500


def test_shares_of_event_counts_that_are_none_are_refused():
    for counts in ((0.5, 0.5), (0.5, 0.5, 0.5, -0.5), (0.4, 0.3, 0.2, 0.2)):
        with pytest.raises(ValueError, match="event_counts"):
            EmbeddedCorpusConfig(event_counts=counts)
