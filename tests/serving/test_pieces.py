"""Text and sound in pieces are what they are in one, however they are cut."""

import asyncio
import io
import random

import numpy as np
import pytest
import soundfile
from tiny_server import file_of

from bagpiper_jax import audio
from bagpiper_jax.generation.streaming import AudioDelta, SegmentEnd, TextDelta
from bagpiper_jax.generation.thinking import Content, Reasoning, ThinkSplitter, parted
from bagpiper_jax.serving.answers import Answer
from bagpiper_jax.serving.sounds import RATE, PCMStream, encoded
from bagpiper_jax.text import ByteTokenizer

WRITTEN = {
    "plain": ("", "plain"),
    "<think>\n1. Rain.\n\n2. Soft.\n</think>\n\nRain falls.": ("1. Rain.\n\n2. Soft.", "Rain falls."),
    "Caption: rain\n\n<think>- a\n- b</think>\n\nIt rains.": ("- a\n- b", "Caption: rain\n\nIt rains."),
    "<think>cut at its longest\n": ("cut at its longest\n", ""),
    "a < b <thin ice> </think> c<": ("", "a < b <thin ice> </think> c<"),
    "<think></think>x": ("", "x"),
    "<think>\n\n\n</think>\n\n\n": ("", ""),
    "<think>a</think>b<think>c</think>d": ("ac", "bd"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_reasoning_is_told_from_content_wherever_it_is_cut(text):
    for seed in range(50):
        rng, rest, splitter, found = random.Random(seed), text, ThinkSplitter(), []
        while rest:
            count = rng.randrange(1, 8)
            found += splitter.add(rest[:count])
            rest = rest[count:]
        found += splitter.end()
        assert all(piece.text for piece in found)
        parts = [
            "".join(piece.text for piece in found if isinstance(piece, kind)) for kind in (Reasoning, Content)
        ]
        assert tuple(parts) == WRITTEN[text] == parted(text)


def test_text_without_tags_is_never_held_back():
    splitter = ThinkSplitter()
    for letter in "It rains, and then a door closes.\n\nThat is all":
        assert list(splitter.add(letter)) == [Content(letter)]


def test_an_answer_counts_what_it_was_made_of():
    async def events():
        yield TextDelta(0, 'A man says "good ')
        yield TextDelta(0, 'morning".')
        yield SegmentEnd(0, "text", True)
        yield AudioDelta(1, np.zeros(640, np.float32))
        yield AudioDelta(1, np.zeros(320, np.float32))
        yield SegmentEnd(1, "audio", False)
        yield TextDelta(2, "The end.")
        yield SegmentEnd(2, "text", True)

    async def read():
        answer = Answer(events(), ByteTokenizer(), 320)
        pieces = [piece async for piece in answer.pieces()]
        return answer, pieces

    answer, pieces = asyncio.run(read())
    assert answer.content == 'A man says "good morning".\n\nThe end.'
    assert answer.transcript == "good morning"
    assert (answer.text_tokens, answer.frames, answer.complete) == (34, 3, False)
    assert len(pieces) == 6


@pytest.mark.parametrize("size", [1, 320, 1000, 16_000])
def test_samples_in_pieces_are_those_of_the_whole(size):
    wave = np.sin(np.arange(8000) / 9).astype(np.float32)
    stream = PCMStream(16_000)
    parts = [stream.add(wave[start : start + size]) for start in range(0, len(wave), size)]
    parts.append(stream.add(np.zeros(0, np.float32), last=True))
    assert b"".join(parts) == encoded(wave, 16_000, "pcm")
    assert len(b"".join(parts)) == 2 * 8000 * RATE // 16_000


def test_a_wav_of_unknown_length_is_read_to_its_end():
    wave = np.sin(np.arange(8000) / 9).astype(np.float32) / 2
    streamed = audio.wav_header(RATE) + encoded(wave, 16_000, "pcm")
    whole = encoded(wave, 16_000, "wav")
    samples, rate = soundfile.read(io.BytesIO(streamed), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(samples, soundfile.read(io.BytesIO(whole), dtype="float32")[0])
    np.testing.assert_array_equal(audio.read(streamed), audio.read(whole))


def test_loud_samples_are_clipped_and_do_not_wrap():
    pcm = np.frombuffer(encoded(np.array([2.0, -2.0, 1.0, 0.0], np.float32), RATE, "pcm"), "<i2")
    np.testing.assert_array_equal(pcm, [32767, -32768, 32767, 0])


def test_the_tests_clips_are_sound():
    assert len(audio.read(file_of(np.zeros(1600, np.float32)))) == 1600
