"""What single clips become as dialogues of the real tasks: turns, codes, audio, system prompts."""

import numpy as np
import pytest
import soundfile
from task_helpers import LAYOUT, cache_mixture, caches, clip, config, write_codes

from bagpiper_jax import audio, dialogue
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.captions import AudioAnnotation, SoundEvent
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.text import ByteTokenizer


def test_dialogues_are_used_as_they_are_and_faults_in_them_are_named(tmp_path):
    directory = tmp_path / "user"
    directory.mkdir()
    audio.write(directory / "a.wav", np.zeros(8000, np.float32) + 0.01)
    turns = [["user", "audio", "a"], ["user", "text", "What?"], ["assistant", "text", "Silence."]]
    clips = [
        Clip("a", "train", "sound", audio="a.wav", dialogue=turns),
        Clip("other", "train", "sound", dialogue=[["user", "audio", "a.wav"], *turns[1:]]),
        Clip("martian", "train", "sound", dialogue=[["martian", "text", "hm"]]),
        Clip("torn", "train", "sound", dialogue=[["user", "text"]]),
        Clip("plain", "train", "sound", audio="a.wav", caption="no annotation"),
    ]
    write_manifest(directory, clips)
    path = cache_mixture(
        config(tmp_path, mixtures=("user_sft_understanding",), rates={}, cache_dir=str(tmp_path / "cache"))
    )
    (cache,) = caches(path).values()
    assert cache.manifest["counts"] == {
        "ok": 2,
        "rejected bad_dialogue": 2,
        "skipped no_annotation": 1,
    }
    details = {r["id"]: r["detail"] for r in cache.rejects()}
    assert "unknown role 'martian'" in details["martian"]
    assert "[role, modality, content]" in details["torn"]
    one, two = (cache.read(i) for i in range(2))
    assert ByteTokenizer().decode(one.messages()[2].content) == "Silence."
    assert one.audio == two.audio
    assert read_lock(path).tasks("train")[0].direction == "understanding"


def test_codes_reach_the_batch(tmp_path):
    directory = tmp_path / "user"
    directory.mkdir()
    clips = [clip(name) for name in ("one", "two", "three", "lost")]
    for c in clips[:3]:
        path = directory / c.audio
        path.parent.mkdir(exist_ok=True)
        audio.write(path, np.zeros(8000, np.float32) + 0.01)
    write_manifest(directory, clips)
    settings = {"mixtures": ("user_caption_to_audio",), "rates": {}, "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(ExportError, match="needs codec codes; name the codec"):
        cache_mixture(config(tmp_path, **settings))
    with pytest.raises(ExportError, match="no codes of codec nano-codec.*tokenize_audio"):
        cache_mixture(config(tmp_path, **settings, codec="nano-codec"))
    made = write_codes(directory, {"one": 5, "two": 9, "three": 2})
    path = cache_mixture(config(tmp_path, **settings, codec="nano-codec"))
    (cache,) = caches(path).values()
    assert cache.manifest["counts"] == {"ok": 3, "rejected no_codes": 1}
    loader = Loader(
        path, BatchShape(1, 256, 1), LAYOUT, LoaderConfig(finite=True, codec="nano-codec", cfg_dropout=0.0)
    )
    found = dialogue.parse(loader.batch(0).tokens[0], LAYOUT)
    pairs = {
        ByteTokenizer().decode(caption[2]): made_into[2]
        for caption, made_into in zip(found[::2], found[1::2], strict=True)
    }
    for name in ("one", "two", "three"):
        np.testing.assert_array_equal(pairs[f"This is {name}!"], made[name])


def test_a_lock_tells_the_system_prompt_of_its_generation_dialogues(tmp_path):
    said = AudioAnnotation(2.0, sounds=(SoundEvent("dog bark", 0.0, 1.0),)).to_json()
    write_manifest(tmp_path / "user", [clip("one", annotation=said)])
    write_codes(tmp_path / "user", {"one": 5})
    path = tmp_path / "user" / "audio" / "one.wav"
    path.parent.mkdir()
    audio.write(path, np.full(8000, 0.01, np.float32))
    settings = {
        "rates": {},
        "splits": ("train",),
        "codec": "nano-codec",
        "system_prompt": "Compose with care.",
    }
    tuning, listening = cache_mixtures(
        config(
            tmp_path,
            mixtures=("user_sft_generation", "user_audio_to_caption"),
            cache_dir=str(tmp_path / "cache"),
            **settings,
        )
    )
    assert read_lock(tuning).system_prompt == "Compose with care."
    (cache,) = caches(tuning).values()
    first = cache.read(0).messages()[0]
    assert (first.role, ByteTokenizer().decode(first.content)) == ("system", "Compose with care.")
    assert read_lock(listening).system_prompt == ""


def test_flac_of_our_format_is_taken_over_and_any_other_encoded(tmp_path):
    from tasks import settings
    from tasks.preprocessors import encode_dialogue

    directory, samples = (
        tmp_path / "user",
        (0.1 * np.random.default_rng(0).normal(size=9000)).astype(np.float32),
    )
    directory.mkdir()
    formats = {"ours": (16000, "PCM_16", 1), "deep": (16000, "PCM_24", 1), "fast": (32000, "PCM_16", 1),
               "wide": (16000, "PCM_16", 2)}  # fmt: skip
    for name, (rate, subtype, channels) in formats.items():
        wave = np.repeat(samples[:, None], channels, axis=1)
        soundfile.write(directory / f"{name}.flac", wave, rate, subtype=subtype)
    write_manifest(directory, [Clip(n, "train", "sound", audio=f"{n}.flac") for n in formats])
    settings.configure(settings.Settings(str(tmp_path)))
    for name in formats:
        turns = [["user", "audio", name], ["assistant", "text", "x"]]
        features = encode_dialogue(turns, "user")
        taken = features["audio"] == (directory / f"{name}.flac").read_bytes()
        assert taken == (name == "ours")
        decoded = audio.decode_flac(features["audio"])
        assert len(decoded) == features["msg_len"][0]
        np.testing.assert_allclose(decoded, audio.read(directory / f"{name}.flac"), atol=1 / 32768)
    both = encode_dialogue([["user", "audio", "ours"], ["user", "audio", "deep"], *turns[1:]], "user")
    assert len(audio.decode_flac(both["audio"])) == 18000
    twice = encode_dialogue([["user", "audio", "ours"], ["user", "audio", "ours"], *turns[1:]], "user")
    assert twice["audio"] == (directory / "ours.flac").read_bytes() and list(twice["msg_start"]) == [0, 0, 0]


def test_a_clip_of_one_direction_serves_no_other():
    from tasks import pretraining
    from tasks.preprocessors import NotApplicable

    only = clip("only", directions=["audio_to_caption"])
    assert pretraining.audio_to_caption(only, None)[1] == ["assistant", "text", only.caption]
    for author in (pretraining.caption_to_audio, pretraining.text_only):
        with pytest.raises(NotApplicable, match="other_direction"):
            author(only, None)
