"""What streams adds up to the reply; its sound can be played while it grows."""

import asyncio

import numpy as np
import pytest

from bagpiper_jax import audio
from bagpiper_jax.generation.offline.collecting import collected
from bagpiper_jax.generation.offline.live import followed
from bagpiper_jax.generation.requests import PoisonedError
from bagpiper_jax.generation.streaming import AudioDelta, SegmentEnd, TextDelta

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
ANSWER = [
    TextDelta(0, "<think>so"), TextDelta(0, "</think>rain"), SegmentEnd(0, "text", True),
    TextDelta(1, "and more"), SegmentEnd(1, "text", True),
    AudioDelta(2, SOUND[:1500]), AudioDelta(2, SOUND[1500:]), SegmentEnd(2, "audio", False),
]  # fmt: skip


async def stream(events, end=None):
    for event in events:
        yield event
    if end is not None:
        raise end


def follow(events, path, end=None, say=lambda text: None):
    return asyncio.run(followed(stream(events, end), path, 16_000, say))


def test_events_add_up_to_the_reply():
    reply = asyncio.run(collected(stream(ANSWER)))
    assert (reply.text, reply.complete) == ("<think>so</think>rain\n\nand more", False)
    np.testing.assert_array_equal(reply.audio, SOUND)


@pytest.mark.parametrize(
    "events, samples", [(ANSWER[:5], None), ([SegmentEnd(0, "audio", True)], 0),
                        ([AudioDelta(0, SOUND), SegmentEnd(0, "audio", True), SegmentEnd(1, "audio", True)], 0)],
)  # fmt: skip
def test_a_reply_has_the_sound_of_its_last_audio(events, samples):
    reply = asyncio.run(collected(stream(events)))
    assert reply.complete and (None if reply.audio is None else len(reply.audio)) == samples


def test_text_is_said_as_it_comes_and_sound_is_in_the_file_at_once(tmp_path):
    path, told = tmp_path / "a.wav", []

    async def watched():
        for event in ANSWER:
            yield event  # control comes back when the event has been dealt with
            told.append(len(audio.read(path, min_seconds=0)) if path.exists() else 0)

    said = []
    assert asyncio.run(followed(watched(), path, 16_000, said.append)) == 0.25
    assert said == ["<think>so", "</think>rain", "\n", "\nand more", "\n"]
    assert told == [0, 0, 0, 0, 0, 1500, 4000, 4000]
    assert path.read_bytes() == audio.encode_wav(SOUND, 16_000)


def test_a_second_sound_takes_the_place_of_the_first(tmp_path):
    events = [AudioDelta(0, SOUND), SegmentEnd(0, "audio", True), AudioDelta(1, SOUND[:320]),
              SegmentEnd(1, "audio", True)]  # fmt: skip
    assert follow(events, tmp_path / "a.wav") == 0.02
    assert (tmp_path / "a.wav").read_bytes() == audio.encode_wav(SOUND[:320], 16_000)


def test_without_sound_no_file_is_written(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"an older one")
    assert follow(ANSWER[:5], tmp_path / "a.wav") is None
    assert (tmp_path / "a.wav").read_bytes() == b"an older one"
    events = [AudioDelta(0, SOUND), SegmentEnd(0, "audio", True), SegmentEnd(1, "audio", True)]
    assert follow(events, tmp_path / "b.wav") is None and not (tmp_path / "b.wav").exists()


def test_a_fault_leaves_what_had_come(tmp_path):
    with pytest.raises(PoisonedError):
        follow(ANSWER[:6], tmp_path / "a.wav", PoisonedError("no numbers"))
    assert (tmp_path / "a.wav").read_bytes() == audio.encode_wav(SOUND[:1500], 16_000)
