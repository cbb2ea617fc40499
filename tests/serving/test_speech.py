"""Speech as OpenAI's own client asks for it."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
from tiny_server import NAME, SETTINGS, SYSTEM, reply

from bagpiper_jax.audio import resample
from bagpiper_jax.dialogue import Message
from bagpiper_jax.serving.sounds import RATE

LINE = 'A calm voice. Somebody says "Good morning.".'


def expected(server) -> np.ndarray:
    audio = reply(server, [SYSTEM, Message("user", "text", LINE)], ("text", "audio"), 7).audio
    return resample(audio, 16_000, RATE)


def asked(**more) -> dict:
    return {
        "model": NAME,
        "voice": "alloy",
        "input": "Good morning.",
        "instructions": "A calm voice.",
        "extra_body": {"seed": 7},
    } | more


@pytest.mark.parametrize("format", [None, "mp3", "opus", "flac", "wav"])
def test_a_line_is_spoken_in_every_format(served, format):
    more = {"response_format": format} if format else {}
    data = served.client().audio.speech.create(**asked(**more)).content
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    wanted = expected(served)
    if format in ("flac", "wav"):
        assert rate == RATE
        np.testing.assert_allclose(samples, wanted, atol=2e-4)
    else:
        assert abs(len(samples) / rate - len(wanted) / RATE) < 0.1
        assert format != "opus" or data[:4] == b"OggS"


def test_raw_samples_come_in_pieces(served):
    with served.client().audio.speech.with_streaming_response.create(
        **asked(response_format="pcm", voice="calm", instructions="")
    ) as response:
        assert response.headers["content-type"] == "audio/pcm"
        pieces = list(response.iter_bytes())
    pcm = np.frombuffer(b"".join(pieces), "<i2") / 32768
    np.testing.assert_allclose(pcm, expected(served), atol=2e-4)


def test_events_are_the_same_sound(served):
    with served.client().audio.speech.with_streaming_response.create(
        **asked(response_format="pcm", stream_format="sse")
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"} and len(events) > 3
    pcm = np.frombuffer(b"".join(base64.b64decode(event["audio"]) for event in events[:-1]), "<i2") / 32768
    np.testing.assert_allclose(pcm, expected(served), atol=2e-4)
    done = events[-1]
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["output_tokens"] >= len(pcm) / 480


def test_the_settings_have_what_the_tests_rely_on():
    assert SETTINGS.loop.audio.min_steps == SETTINGS.loop.audio.max_steps
