"""`caption_audio` against our own server: what it sends is taken whole, and what comes back is the model's caption."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from curation_helpers import corpus
from tiny_server import NAME, SETTINGS, random_generator, running

from bagpiper_jax import audio
from bagpiper_jax import vocabulary as v
from bagpiper_jax.curation.captioning import CaptionConfig
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.jobs import caption_audio
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.text import ByteTokenizer

KEY = "sesame-open-sesame"
TEXT = SamplingConfig(0.9, 0, 1, 8, 150)


class Letters(ByteTokenizer):
    """Writes letters for every id: captions of bytes drawn at random would be rejected as unprintable."""

    def decode(self, ids) -> str:
        return "".join(chr(97 + i % 26) for i in ids)


@pytest.fixture(scope="module")
def server():
    """With a key, and a model that ends its captions by itself, wherever a large weight happens to say so."""
    generator = random_generator()
    head = generator.model.lm_head[...]
    generator.model.lm_head.set_value(
        head.at[v.EOS].set(20 * jax.random.normal(jax.random.key(2), head[0].shape))
    )
    generator = dataclasses.replace(generator, tokenizer=Letters())
    settings = dataclasses.replace(SETTINGS, loop=LoopConfig(TEXT))
    with running(generator, settings, key=KEY) as server:
        yield server


@pytest.fixture
def command(tmp_path, server, monkeypatch):
    monkeypatch.setenv("BAGPIPER_API_KEY", KEY)
    source = corpus(tmp_path, 3)
    flags = [
        "--gin_file=gin/corpora/captioning.gin", f"--gin.CaptionConfig.corpora=('{source}',)",
        f"--gin.CaptionConfig.output='{tmp_path / 'out'}'", "--gin.CaptionConfig.caption_filter=None",
        f"--gin.Endpoint.url='{server.url}/v1'", f"--gin.Endpoint.model='{NAME}'",
        "--gin.Endpoint.key_variable='BAGPIPER_API_KEY'", "--gin.Endpoint.attempts=1",
        "--gin.CaptionConfig.temperature=0.9",
    ]  # fmt: skip
    return lambda *more: caption_audio.main([*flags, *more])


@pytest.mark.parametrize("instruct", [True, False])
def test_a_model_captions_a_corpus_through_its_own_server(tmp_path, command, server, instruct):
    command(f"--gin.CaptionConfig.instruct={instruct}")
    clips = {clip.id: clip for clip in read_manifest(tmp_path / "out")}
    assert list(clips) == ["c0", "c1", "c2", "t"]
    summary = json.loads((tmp_path / "out/corpus.json").read_text())
    assert summary["rejects"] == {} and summary["model"] == NAME
    loop = LoopConfig(TEXT, modalities=("text",), max_segments=1)
    prompt = CaptionConfig((), "").prompt("caption").template
    for number in range(3):
        dialogue = [Message("user", "audio", audio.read(tmp_path / f"in/audio/{number}.flac"))]
        dialogue += [Message("user", "text", prompt)] if instruct else []
        (reply,) = server.generator.reply([dialogue], loop)
        assert reply.complete and clips[f"c{number}"].caption == reply.text
    if not instruct:  # a long prompt drowns a short clip for a model of random weights
        assert len({clips[f"c{number}"].caption for number in range(3)}) > 1, "they depend on what is heard"


def test_the_samples_of_a_clip_arrive_as_they_are(tmp_path, command, server, monkeypatch):
    heard = []
    submit = server.engine.submit
    monkeypatch.setattr(
        server.engine, "submit", lambda dialogue, *a, **k: heard.append(dialogue) or submit(dialogue, *a, **k)
    )
    command()
    sent = sorted((dialogue[0].content for dialogue in heard), key=lambda samples: samples[0])
    files = [audio.read(tmp_path / f"in/audio/{number}.flac") for number in range(3)]
    np.testing.assert_array_equal(sent, sorted(files, key=lambda samples: samples[0]))


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--gin.Endpoint.model='another'", rf"404.*this one is '{NAME}'"),
        ("--gin.Endpoint.key_variable=''", "the key is not accepted"),
    ],
)
def test_a_wrong_name_or_key_ends_the_job_with_the_server_s_words(command, flag, said):
    with pytest.raises(EndpointError, match=said):
        command(flag)


def test_a_caption_cut_at_its_longest_is_told_as_that(tmp_path, command):
    command("--gin.CaptionConfig.max_tokens=8", "--gin.CaptionConfig.max_reject_frac=1.0")
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert {reject["reason"] for reject in rejects} == {"cut_caption"} and len(rejects) == 3
