"""Systems under test: real servers and the real engine, recorded replies of every form."""

import asyncio
import base64
import dataclasses
import io

import numpy as np
import pytest
import soundfile
from misbehaving_endpoint import USAGE, Response, endpoint
from runner_helpers import (
    Toy,
    asked_of,
    lines_of,
    quick,
    recorded,
    run_toy,
    tone,
    toy_files,
    wav_of,
    write_lines,
)
from tiny_server import ENGINE, LOOP, random_generator, running

from bagpiper_jax import audio
from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.evaluation.systems import engine as engines
from bagpiper_jax.evaluation.systems.config import (
    CaptionedSystem,
    CheckpointSystem,
    EndpointSystem,
    RecordedSystem,
)
from bagpiper_jax.evaluation.systems.recorded import RecordedUnderTest
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.service import Engine


@pytest.fixture(scope="module")
def generator():
    return random_generator()


def echo(messages):
    return messages[-1]["content"].replace("question", "answer")


def spoken(samples, transcript="said", text=None):
    """A completion with a sound, as OpenAI's API has it."""
    data = base64.b64encode(wav_of(samples)).decode() if isinstance(samples, np.ndarray) else samples
    message = {
        "role": "assistant",
        "content": text,
        "audio": {"id": "a", "data": data, "transcript": transcript},
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Response(200, {"choices": [choice], "usage": USAGE})


@pytest.mark.parametrize("form", ["input_audio", "audio_url"])
@pytest.mark.parametrize("channels, rate", [(1, 16_000), (2, 44_100)])
def test_clips_are_sent_whole_at_16_khz_before_the_question(tmp_path, form, channels, rate):
    files = toy_files(tmp_path / "toy", 1, clip="a.wav")
    tone(files / "a.wav", 0.5, channels, rate)
    with endpoint(lambda messages: "answer 0") as server:
        system = dataclasses.replace(asked_of(server), clip_form=form)
        result = run_toy(files, tmp_path / "out", system)
    assert result.official[0].value == 100.0
    (body,) = server.asked
    clip, text = body["messages"][0]["content"]
    assert (text, clip["type"], body["max_tokens"]) == ({"type": "text", "text": "question 0"}, form, 64)
    data = (
        clip["input_audio"]["data"] if form == "input_audio" else clip["audio_url"]["url"].partition(",")[2]
    )
    samples, found = soundfile.read(io.BytesIO(base64.b64decode(data)))
    np.testing.assert_allclose(samples, audio.read(files / "a.wav"), atol=2 / 32768)
    assert (found, samples.ndim) == (16_000, 1)


def test_bad_clips_are_faults_with_their_names_and_the_others_go_on(tmp_path):
    files = toy_files(tmp_path / "toy", 4)
    lines = lines_of(files / "toy.jsonl")
    for line, name in zip(lines, ("good.wav", "gone.wav", "broken.wav", "long.wav"), strict=True):
        line["clip"] = name
    write_lines(files / "toy.jsonl", lines)
    tone(files / "good.wav"), tone(files / "long.wav", 3.0)
    (files / "broken.wav").write_bytes((files / "good.wav").read_bytes()[:2000])
    with endpoint(lambda messages: "answer 0") as server:
        result = run_toy(files, tmp_path / "out", dataclasses.replace(asked_of(server), max_seconds=2.0))
    assert result.faults == {"missing_audio": 1, "corrupt_audio": 1, "too_long_audio": 1}
    assert len(server.asked) == 1
    details = [line["detail"] for line in lines_of(tmp_path / "out/toy/predictions.jsonl")]
    assert "gone.wav" in details[1] or "no such file" in details[1].lower()


def test_sound_is_asked_for_and_saved(tmp_path):
    files = toy_files(tmp_path / "toy", 1, wants="audio", answer="said")
    samples = 0.1 * np.sin(np.arange(8000) / 5)
    with endpoint(manner=lambda number, messages: spoken(samples)) as server:
        result = run_toy(files, tmp_path / "out", asked_of(server))
        run_toy(files, tmp_path / "out", asked_of(server))
    (body,) = server.asked
    assert (body["modalities"], body["audio"]) == (["text", "audio"], {"voice": "alloy", "format": "wav"})
    assert result.official[0].value == 100.0, "the transcript is the text of a reply without any"
    (line,) = lines_of(tmp_path / "out/toy/predictions.jsonl")
    heard = audio.read(tmp_path / "out/toy" / line["reply"]["audio"])
    np.testing.assert_allclose(heard, samples, atol=1 / 32768)
    assert len((tmp_path / "out/requests.jsonl").read_text()) < 1000, "the journal has the file's name alone"


@pytest.mark.parametrize(
    "sent, fault",
    [
        (spoken("no base64!"), "endpoint_broken_sound"),
        (spoken(base64.b64encode(b"no sound").decode()), "corrupt_sound"),
        (
            Response(200, {"choices": [{"message": {"content": "words"}, "finish_reason": "stop"}]}),
            "no_sound",
        ),
    ],
)
def test_a_reply_without_a_sound_is_a_fault(tmp_path, sent, fault):
    files = toy_files(tmp_path / "toy", 1, wants="audio")
    with endpoint(manner=lambda number, messages: sent) as server:
        result = run_toy(files, tmp_path / "out", asked_of(server, attempts=2))
    assert result.faults == {fault: 1}


def test_what_cannot_begin_a_reply_says_so_and_is_not_asked(tmp_path):
    with endpoint(echo) as server:
        result = run_toy(toy_files(tmp_path / "toy", 1, begun="So: "), tmp_path / "out", asked_of(server))
    assert result.faults == {"cannot_begin": 1} and not server.asked


def test_refusals_are_faults_and_are_asked_again(tmp_path):
    files = toy_files(tmp_path / "toy", 1)
    refusal = {"choices": [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}]}
    manners = [Response(200, refusal), "good"]
    with endpoint(echo, lambda number, messages: manners[number]) as server:
        assert run_toy(files, tmp_path / "out", asked_of(server)).faults == {"endpoint_refusal": 1}
        assert run_toy(files, tmp_path / "out", asked_of(server)).faults == {}


def test_our_own_server_is_an_endpoint(tmp_path, generator):
    """Text about a clip and sound of a line, through HTTP: what the generator replies without it."""
    files = toy_files(tmp_path / "toy", 2)
    lines = lines_of(files / "toy.jsonl")
    lines[0]["clip"], lines[1]["wants"] = "a.wav", "audio"
    write_lines(files / "toy.jsonl", lines)
    tone(files / "a.wav", 0.5)
    with running(generator) as server:
        system = EndpointSystem(
            quick(f"{server.url}/v1", model="tiny", seconds=300.0), temperature=LOOP.text.temperature
        )
        result = run_toy(files, tmp_path / "out", system)
    assert result.faults == {}
    heard, made = lines_of(tmp_path / "out/toy/predictions.jsonl")
    heard_loop = dataclasses.replace(LOOP, modalities=("text",), max_segments=1)
    dialogue = [Message("user", "audio", audio.read(files / "a.wav")), Message("user", "text", "question 0")]
    (reply,) = generator.reply([dialogue], heard_loop)
    assert heard["reply"]["text"] == reply.text
    assert len(audio.read(tmp_path / "out/toy" / made["reply"]["audio"], min_seconds=0))


def test_the_engine_answers_as_the_generator_does_and_says_how_full_it_was(tmp_path, generator, caplog):
    clip = tone(tmp_path / "a.wav", 0.5)
    (tmp_path / "broken.wav").write_bytes(clip.read_bytes()[:1000])
    config = CheckpointSystem("run", name="tiny", loop=LOOP, engine=ENGINE)
    questions = [Asked(f"question {n}", clip, "text", 12) for n in range(24)]
    others = [
        Asked("rain", None, "audio", 12),
        Asked("q", tmp_path / "broken.wav"),
        Asked("q", None, "text", 4096),
    ]

    async def answers():
        system = engines.CheckpointUnderTest(config, Prompting(generator, LOOP, None), engine)
        watching = asyncio.ensure_future(system.watch())
        every = enumerate([*questions, *others])
        found = await asyncio.gather(
            *(system.answer(f"i{n}", asked, tmp_path / f"{n}.wav") for n, asked in every)
        )
        watching.cancel()
        system.tell()
        return found

    with (
        pytest.MonkeyPatch.context() as patch,
        Engine(generator, ENGINE, fill=True) as engine,
        caplog.at_level("INFO"),
    ):
        patch.setattr(engines, "identity", lambda config: {"kind": "checkpoint"})
        patch.setattr(engines, "_SAMPLE_SECONDS", 0.001)
        *heard, made, broken, long = asyncio.run(answers())
    text = dataclasses.replace(LOOP.text, max_steps=12, min_steps=min(LOOP.text.min_steps, 12))
    loop = dataclasses.replace(LOOP, text=text, modalities=("text",), max_segments=1)
    dialogues = [
        [Message("user", "audio", audio.read(clip)), Message("user", "text", q.text)] for q in questions
    ]
    assert [reply.text for reply in heard] == [reply.text for reply in generator.reply(dialogues, loop)]
    assert len(audio.read(made.audio, min_seconds=0)) and not made.fault
    assert (broken.fault, long.fault) == ("corrupt_audio", "too_long")
    assert any("rows in use until the queue was empty" in line for line in caplog.messages)


def test_captions_are_read_by_a_text_model_once_for_each_clip(tmp_path):
    files = toy_files(tmp_path / "toy", 4, clip="a.wav")
    tone(files / "a.wav")
    with (
        endpoint(lambda messages: "<think>hm</think>A tone, {braces} kept.") as hears,
        endpoint(lambda messages: "answer " + messages[-1]["content"].rpartition("question ")[2]) as reads,
    ):
        config = CaptionedSystem(asked_of(hears), quick(reads.url, model="reader"))
        result = run_toy(files, tmp_path / "out", config)
        run_toy(files, tmp_path / "out", config)
    assert (len(hears.asked), len(reads.asked)) == (1, 4)
    assert result.official[0].value == 100.0 and result.system.name == "m → reader"
    prompt = reads.asked[0]["messages"][-1]["content"]
    assert "A tone, {braces} kept." in prompt and "hm" not in prompt.split()
    (line, *_) = lines_of(tmp_path / "out/toy/predictions.jsonl")
    assert line["reply"]["text"] == "<think>\nA tone, {braces} kept.\n</think>\nanswer 0"


def test_a_judge_is_asked_once_and_its_raw_replies_are_kept(tmp_path):
    files = toy_files(tmp_path / "toy", 6, judge=1)
    told = write_lines(tmp_path / "told.jsonl", [{"id": f"i{n}", "reply": f"answer {n}"} for n in range(6)])

    def judge(messages):
        return "yes" if messages[-1]["content"] < "answer 4" else "It is, in prose, not quite right."

    with endpoint(judge) as server:
        first = run_toy(files, tmp_path / "out", recorded(told), judge=quick(server.url, model="judge"))
        again = run_toy(
            files, tmp_path / "out", recorded(told), judge=quick(server.url, model="judge", concurrency=9)
        )
    assert len(server.asked) == 6 and again.honest == first.honest
    assert first.honest[0].value == pytest.approx(400 / 6)
    assert first.judge == {"model": "judge", "url": server.url}
    assert "in prose" in (tmp_path / "out/judge.jsonl").read_text()


def test_a_folder_of_sounds_is_read_by_the_ids_of_the_items(tmp_path):
    files = toy_files(tmp_path / "toy", 3, wants="audio")
    tone(tmp_path / "made/i0.wav"), tone(tmp_path / "made/i1.flac")
    system = RecordedUnderTest(RecordedSystem(str(tmp_path / "made")), Toy(files, None))
    found = [
        asyncio.run(system.answer(f"i{n}", Asked("", None, "audio"), tmp_path / "x.wav")) for n in range(3)
    ]
    assert [reply.audio and reply.audio.name for reply in found] == ["i0.wav", "i1.flac", None]
    assert found[2].fault == "missing_reply"
    (tmp_path / "empty").mkdir()
    empty = RecordedUnderTest(RecordedSystem(str(tmp_path / "empty")), Toy(files, None))
    assert "holds no sounds" in empty.remarks[0]


def test_a_benchmark_reads_files_of_its_own_form_and_ours(tmp_path):
    class Official(Toy):
        def recorded(self, path):
            return {"i0": Reply("official")}

    toy = Official(toy_files(tmp_path / "toy", 1), None)
    theirs = write_lines(tmp_path / "theirs.jsonl", [{"id": "i0", "model_output": "x"}])
    ours = write_lines(tmp_path / "ours.jsonl", [{"id": "i0", "reply": "ours"}])
    for path, said in ((theirs, "official"), (ours, "ours")):
        system = RecordedUnderTest(RecordedSystem(str(path)), toy)
        assert asyncio.run(system.answer("i0", Asked("q"), tmp_path / "x.wav")).text == said


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe", b"[1, 2]\n3\nnull\n", b'{"id": 1, "reply": "x"}\n', b"{" * 9999]
)
def test_malformed_files_are_counted(tmp_path, content):
    (tmp_path / "told.jsonl").write_bytes(content)
    result = run_toy(toy_files(tmp_path / "toy", 2), tmp_path / "out", recorded(tmp_path / "told.jsonl"))
    assert result.faults == {"missing_reply": 2} and any(
        "holds no replies" in r for r in result.system.remarks
    )
    assert result.official[0].scored == 0


def test_what_is_no_replies_is_refused_by_name(tmp_path):
    (tmp_path / "told.csv").write_text("x")
    with pytest.raises(BenchmarkError, match="told.csv is of no known form"):
        run_toy(toy_files(tmp_path / "toy", 1), tmp_path / "out", recorded(tmp_path / "told.csv"))


def test_a_model_without_a_name_and_a_server_that_is_down_end_the_run_with_a_remedy(tmp_path):
    files = toy_files(tmp_path / "toy", 40)
    with pytest.raises(Exception, match="Endpoint.model is empty"):
        run_toy(files, tmp_path / "out", EndpointSystem(Endpoint()))
    with pytest.raises(Exception, match="run the same command again"):
        run_toy(files, tmp_path / "out", EndpointSystem(quick("http://127.0.0.1:9/v1", attempts=1)))
