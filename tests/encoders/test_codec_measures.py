"""What benchmarks/ says of a codec: copies by leading streams, their errors, and the words that codes tell."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from encoder_helpers import write_corpus
from places import REPOSITORY
from tiny_codec import TINY

from bagpiper_jax.encoders import codec_report
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.manifest import read_manifest, write_manifest
from bagpiper_jax.models.codecs.xcodec import functional, storage


def script(name: str):
    """A module of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def quality():
    return script("codec_quality")


@pytest.fixture(scope="module")
def words():
    return script("codec_words")


def random_codec(config):
    rng = np.random.default_rng(0)
    found = dict(functional.initialize(config))
    found["quantizer/embed"] = rng.normal(size=found["quantizer/embed"].shape).astype(np.float32)
    return found


def test_leading_streams_are_those_of_a_codec_that_has_no_others(quality):
    parameters, codes = random_codec(TINY), np.arange(2 * 8 * 3).reshape(2, 8, 3) % 16
    shorter = dataclasses.replace(TINY, num_codebooks=2)
    theirs = {name: x[:2] if name.startswith("quantizer/") else x for name, x in parameters.items()}
    ours = functional.decode(quality.only_leading(parameters, 2), TINY, codes)
    np.testing.assert_allclose(ours, functional.decode(theirs, shorter, codes[..., :2]), atol=1e-6)
    assert np.abs(ours - functional.decode(parameters, TINY, codes)).max() > 1e-3


class Ears:
    """A recogniser that hears one word less in what is quiet."""

    name, version = "ears", "1"

    def transcribe(self, path, language):
        from bagpiper_jax import audio

        return "apple river" if np.abs(audio.read(path)).max() > 0.1 else "apple"


def judge(name):
    if name == "dnsmos":
        raise MissingEvaluatorError("install it")
    return Ears()


def test_originals_and_copies_stand_side_by_side(quality, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus", clips=3)
    turns = [{"text": "Apple", "start": 0.0, "end": 0.4}, {"text": "river", "start": 0.5, "end": 1.0}]
    clips = [
        dataclasses.replace(clip, split="test", annotation={"turns": turns} if index else None)
        for index, clip in enumerate(read_manifest(corpus))
    ]
    turns_elsewhere = [{**turns[0], "language": "fr"}]
    clips[2] = dataclasses.replace(clips[2], annotation={"turns": turns_elsewhere})
    write_manifest(corpus, clips)
    storage.save_codec(tmp_path / "codec.safetensors", random_codec(TINY), TINY)
    codes = np.zeros((25, 3), int)
    monkeypatch.setattr(codec_report, "reconstruct", lambda _, __, wave: (0.001 * wave, codes))
    recordings = quality.held_out(corpus, "test", 9)
    found = quality.measure(tmp_path / "codec.safetensors", recordings, [1, 3], quality.Judges(judge))

    assert found["judges"] == {"ears": "1"} and found["missing"] == {"dnsmos": "install it"}
    rows = [(row["streams"], row["kbps"], row["wer"], row["words"]) for row in found["rows"]]
    assert rows == [("original", None, 0.0, 2), (1, 0.1, 0.5, 2), (3, pytest.approx(0.3), 0.5, 2)]
    lines = quality.table(found).splitlines()
    assert lines[4].startswith("| corpus, sound | 3 | original | – | – | – | – | 0.0 % (2) |")
    assert lines[5].startswith("| corpus, sound | 3 | 1 | 0.10 | ") and "50.0 % (2)" in lines[5]
    assert lines[-1] == "dnsmos: install it"


def test_a_word_is_what_occurs_in_each_of_its_thirds(words):
    codes = np.array([[7], [1], [1], [2], [3], [0], [0], [7]])
    np.testing.assert_array_equal(
        words._histogram(codes, 8, 1.0, 7.0).reshape(3, 8).nonzero(), [[0, 1, 1, 2], [1, 2, 3, 0]]
    )
    # shorter than its thirds, and at the very end of a clip
    assert words._histogram(codes, 8, 7.6, 8.2).reshape(3, 8)[:, 7].tolist() == [1, 1, 1]


def test_a_probe_tells_what_codes_tell_and_no_more(words):
    rng = np.random.default_rng(0)
    labels, train = rng.integers(4, size=400), np.arange(400) < 300
    told = np.eye(6)[labels] + 0.3 * rng.normal(size=(400, 6))
    assert words._accuracy(told, labels, train, 4) > 0.95
    assert words._accuracy(rng.normal(size=(400, 6)), labels, train, 4) < 0.45
