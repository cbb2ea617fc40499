"""Chat completions as OpenAI's own client asks for them, against what the generator replies."""

import asyncio
import base64
import dataclasses
import io

import numpy as np
import openai
import pytest
import soundfile
from tiny_codec import HOP
from tiny_server import LOOP, NAME, SYSTEM, file_of, reply

from bagpiper_jax.audio import read, resample
from bagpiper_jax.dialogue import Message
from bagpiper_jax.serving.sounds import RATE

BOTH = {"modalities": ["text", "audio"], "audio": {"voice": "any", "format": "wav"}}


def said(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


FRAME = HOP / 16_000
"""Seconds of a frame of the codec."""


def decoded(data: str) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert rate == RATE
    return samples


def wave(seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).normal(size=int(16_000 * seconds))).astype(np.float32).clip(-1, 1)


def clip(data: bytes, format: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": format}}


def test_text_and_sound_are_the_generator_s_reply(served):
    answer = served.client().chat.completions.create(model=NAME, messages=said("rain"), seed=5, **BOTH)
    expected = reply(served, [SYSTEM, Message("user", "text", "rain")], ("text", "audio"), seed=5)
    (choice,) = answer.choices
    assert choice.message.content == expected.text and choice.finish_reason == "length"
    samples = decoded(choice.message.audio.data)
    np.testing.assert_allclose(samples, resample(expected.audio, 16_000, RATE), atol=2e-4)
    assert answer.usage.completion_tokens_details.audio_tokens == len(expected.audio) // HOP
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_adds_up_to_the_whole_answer(served):
    client = served.client()
    asked = {"model": NAME, "messages": said("a dog, then a car"), "temperature": 0, "seed": 3}
    whole = client.chat.completions.create(**asked, **BOTH)
    chunks = list(
        client.chat.completions.create(
            **asked,
            modalities=["text", "audio"],
            audio={"voice": "any", "format": "pcm16"},
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *chunks, last = chunks
    assert last.choices == [] and last.usage == whole.usage
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant" and len({chunk.id for chunk in chunks}) == 1
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    audio = [delta.audio for delta in deltas if delta.audio]
    assert len({part.id for part in audio}) == 1 and audio[-1].expires_at and audio[-1].data is None
    pcm = b"".join(base64.b64decode(part.data) for part in audio if part.data)
    ours = np.frombuffer(pcm, "<i2") / 32768
    np.testing.assert_allclose(ours, decoded(whole.choices[0].message.audio.data), atol=2e-4)
    assert sum(bool(part.data) for part in audio) > 2  # it came in pieces
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "length" and not any(reasons[:-1])


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "ogg"])
@pytest.mark.parametrize("question", ["", "what is it?"])
def test_a_clip_is_heard_as_the_generator_hears_it(served, format, question):
    data = file_of(wave(), format.upper(), 24_000)
    # The question stands first, as in OpenAI's examples.
    content = [{"type": "text", "text": question}, clip(data, format)]
    answer = served.client().chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": content}]
    )
    heard = [Message("user", "audio", read(data))]
    asked = [Message("user", "text", question)] if question else []
    assert answer.choices[0].message.content == reply(served, heard + asked, ("text",)).text
    assert answer.choices[0].message.audio is None
    assert answer.usage.prompt_tokens_details.audio_tokens > 0


def test_a_data_url_is_a_clip(served):
    data = file_of(wave())
    url = "data:audio/wav;base64," + base64.b64encode(data).decode()
    answers = [
        served.client().chat.completions.create(model=NAME, messages=[{"role": "user", "content": [part]}])
        for part in (clip(data), {"type": "audio_url", "audio_url": {"url": url}})
    ]
    assert answers[0].choices == answers[1].choices


def test_a_caption_that_is_given_is_sounded_at_once(served):
    asked = {"model": NAME, "messages": said("rain on a tin roof"), "modalities": ["audio"]}
    answer = served.client().chat.completions.create(**asked, audio={"voice": "any", "format": "flac"})
    message = answer.choices[0].message
    expected = reply(served, [SYSTEM, Message("user", "text", "rain on a tin roof")], ("audio",))
    assert message.content is None
    np.testing.assert_allclose(decoded(message.audio.data), resample(expected.audio, 16_000, RATE), atol=2e-4)


def test_settings_of_a_request_are_those_of_its_sampling(served):
    answer = served.client().chat.completions.create(
        model=NAME,
        messages=[{"role": "developer", "content": "Sing."}, *said("rain")],
        modalities=["text", "audio"],
        audio={
            "voice": "any",
            "format": "pcm16",
            "guidance": 1.0,
            "temperature": 0.5,
            "max_seconds": 15 * FRAME,
        },
        temperature=0.4,
        max_completion_tokens=10,
        extra_body={"top_k": 3},
        seed=11,
    )
    text = dataclasses.replace(LOOP.text, max_steps=10, min_steps=10, temperature=0.4, top_k=3)
    audio = dataclasses.replace(LOOP.audio, guidance=1.0, temperature=0.5, max_steps=17, min_steps=17)
    loop = dataclasses.replace(LOOP, text=text, audio=audio)
    dialogue = [Message("system", "text", "Sing."), Message("user", "text", "rain")]
    expected = reply(served, dialogue, ("text", "audio"), 11, loop)
    assert answer.choices[0].message.content == expected.text
    pcm = np.frombuffer(base64.b64decode(answer.choices[0].message.audio.data), "<i2")
    assert len(pcm) == 15 * FRAME * RATE == len(expected.audio) * 1.5


def test_clients_at_once_get_what_each_gets_alone(served):
    async def ask(client, n):
        answer = await client.chat.completions.create(model=NAME, messages=said(f"request {n}"), seed=n)
        return answer.choices[0].message.content

    async def all_at_once():
        async with served.async_client() as client:
            return await asyncio.gather(*(ask(client, n) for n in range(20)))

    found = asyncio.run(all_at_once())
    for n, text in enumerate(found):
        assert text == reply(served, [Message("user", "text", f"request {n}")], ("text",), n).text
    assert len(set(found)) == 20


def test_the_model_is_listed_with_what_it_can_do(served):
    client = served.client()
    (card,) = client.models.list().data
    assert card.id == NAME and card == client.models.retrieve(NAME)
    assert card.bagpiper["modalities"] == ["text", "audio"] and card.bagpiper["thinks"]
    assert card.bagpiper["audio"]["max_seconds"] == LOOP.audio.max_steps * FRAME
    with pytest.raises(openai.NotFoundError) as fault:
        client.models.retrieve("another")
    assert fault.value.code == "model_not_found"
