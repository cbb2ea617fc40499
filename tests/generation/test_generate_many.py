"""The job with a real engine: many requests give what each gives alone, and so does a stream."""

import json

import numpy as np
import pytest
from offline_helpers import clip, lines_of, requests_file
from tiny_server import random_generator

from bagpiper_jax import audio
from bagpiper_jax.dialogue import Message
from bagpiper_jax.errors import Explained
from bagpiper_jax.generation.sampling import AudioSampling, TextSampling
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.thinking import parted
from bagpiper_jax.jobs import generate

BOTH = LoopConfig(TextSampling(max_steps=20), AudioSampling(min_steps=20, max_steps=30))
FLAGS = [
    "--gin.GenerateConfig.loop=@LoopConfig()", "--gin.LoopConfig.text=@TextSampling()",
    "--gin.LoopConfig.audio=@AudioSampling()", "--gin.TextSampling.max_steps=20",
    "--gin.AudioSampling.min_steps=20", "--gin.AudioSampling.max_steps=30",
    "--gin.GenerateConfig.engine=@EngineConfig()", "--gin.EngineConfig.rows=4", "--gin.EngineConfig.context=256",
    "--gin.EngineConfig.page=32", "--gin.EngineConfig.chunk=64",
]  # fmt: skip
REQUESTS = [
    {"id": "rain", "text": "rain on a roof"},
    {"id": "caption", "audio": "clips/a.wav"},
    {"id": "seeded", "text": "rain on a roof", "seed": 7},
    {"id": "answer", "audio": "clips/b.wav", "question": "What is it?", "begun": "It is "},
    {"id": "too_long", "text": "rain " * 100},
    {"id": "begun", "text": "a dog", "begun": "A dog "},
]


@pytest.fixture(scope="module")
def generator():
    return random_generator()


@pytest.fixture
def command(tmp_path, monkeypatch, generator):
    """The job with its model loaded; flags are added."""
    (tmp_path / "run/parameters").mkdir(parents=True)
    monkeypatch.setattr(generate, "load_generator", lambda *_: generator)
    return lambda *flags: generate.main([f"--checkpoint={tmp_path / 'run'}", *FLAGS, *map(str, flags)])


def alone(generator, folder, request):
    """The reply of the loop that answers one request."""
    modalities = ("text",) if "audio" in request else ("text", "audio")
    loop = LoopConfig(BOTH.text, BOTH.audio, modalities, len(modalities), request.get("seed", 42))
    if "audio" in request:
        dialogue = [Message("user", "audio", audio.read(folder / request["audio"]))]
        question = request.get("question")
        dialogue += [Message("user", "text", question)] if question else []
    else:
        dialogue = [
            Message("system", "text", generator.system_prompt),
            Message("user", "text", request["text"]),
        ]
    return generator.reply([dialogue], loop, begun=[request.get("begun", "")])[0]


def test_many_requests_give_what_each_gives_alone(tmp_path, command, generator, capsys):
    clip(tmp_path / "clips/a.wav", 0.4)
    clip(tmp_path / "clips/b.wav", 0.9)
    path, out = requests_file(tmp_path, REQUESTS), tmp_path / "out"
    command(f"--requests={path}", f"--output={out}")
    assert "5 replies, 0 of before, rejected: too_long 1" in capsys.readouterr().out
    found = {line["id"]: line for line in lines_of(out / "replies.jsonl")}
    assert list(found) == [request["id"] for request in REQUESTS if request["id"] != "too_long"]
    for request in REQUESTS:
        if request["id"] == "too_long":
            continue
        reply, line = alone(generator, tmp_path, request), found[request["id"]]
        assert (line["reasoning"], line["text"]) == parted(reply.text)
        assert line["complete"] == reply.complete and (line["audio"] is None) == (reply.audio is None)
        if reply.audio is not None:
            samples = audio.read(out / line["audio"], min_seconds=0)
            np.testing.assert_allclose(samples, reply.audio, atol=1e-5 + 0.5 / 32768)
    assert found["rain"]["text"] != found["seeded"]["text"]
    (reject,) = lines_of(out / "rejects.jsonl")
    assert (reject["id"], reject["line"]) == ("too_long", 5) and "raise context" in reject["detail"]
    assert json.loads((out / "generate.json").read_text())["loop"]["seed"] == 42

    command(f"--audio={tmp_path / 'clips'}", f"--output={tmp_path / 'heard'}")
    heard = lines_of(tmp_path / "heard/replies.jsonl")
    assert [line["id"] for line in heard] == ["a.wav", "b.wav"]
    assert heard[0]["text"] == found["caption"]["text"]

    with pytest.raises(Explained, match="another loop"):
        command(f"--requests={path}", f"--output={out}", "--gin.AudioSampling.guidance=1")


def test_a_stream_is_the_reply(tmp_path, command, generator, capsys):
    output = tmp_path / "new/folder/a.wav"
    command("--text=rain on a roof", "--stream", f"--output={output}")
    reply = alone(generator, tmp_path, REQUESTS[0])
    samples = audio.read(output, min_seconds=0)
    np.testing.assert_allclose(samples, reply.audio, atol=1e-5 + 0.5 / 32768)
    seconds = len(reply.audio) / audio.SAMPLE_RATE
    assert capsys.readouterr().out == f"{reply.text}\n{output}: {seconds:.2f} s\n"


def test_what_is_wrong_with_files_is_said_before_a_model_is_loaded(tmp_path, command, monkeypatch):
    monkeypatch.setattr(generate, "load_generator", lambda *_: pytest.fail("a model was loaded"))
    clip(tmp_path / "clips/a.wav")
    (tmp_path / "empty").mkdir()
    path = requests_file(tmp_path, REQUESTS)
    for flags, said in [
        ([f"--requests={tmp_path / 'no.jsonl'}"], "is no file"),
        ([f"--audio={tmp_path / 'empty'}"], "holds no files"),
        (
            [f"--audio={tmp_path / 'clips'}", f"--output={tmp_path / 'clips/out'}"],
            "lies in the folder of clips",
        ),
        ([f"--requests={path}", f"--output={path}"], "cannot write"),
        ([f"--requests={path}", f"--output={tmp_path}/out", "--checkpoint=no_run"], "no complete checkpoint"),
    ]:
        with pytest.raises(Explained, match=said):
            command(*flags)
    assert not (tmp_path / "out").exists()


def test_a_job_that_answers_nothing_fails_and_says_where_to_look(tmp_path, command):
    with pytest.raises(Explained, match=r"no request was answered; rejects\.jsonl"):
        command(f"--requests={requests_file(tmp_path, [b'no JSON'])}", f"--output={tmp_path / 'out'}")
    assert len(lines_of(tmp_path / "out/rejects.jsonl")) == 1
