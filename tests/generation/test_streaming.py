"""What streams is the whole, in pieces that come as early as they can; who leaves frees a row."""

import asyncio
import dataclasses
import random
import threading

import numpy as np
import pytest
import tiny_codec
from plain_decoding import random_model

from bagpiper_jax.dialogue import Message, delay
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.replies import Generator, GeneratorError
from bagpiper_jax.generation.requests import EngineError, PoisonedError
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.generation.streaming import AudioDelta, AudioStream, SegmentEnd, TextDelta, TextStream
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.text import ByteTokenizer, learn_bpe
from bagpiper_jax.vocabulary import Vocabulary

SIZES = tiny_codec.TINY
STREAMS = SIZES.num_codebooks
WRITTEN = "Rain, dann ein Hörnchen — 雨の音 🌧️🎷 e\u0301 <think>x</think>\n\n" * 3
CONFIG = BagpiperConfig(
    DecoderConfig(1, 16, 32, 2, 1, 8, dtype="float32", init_std=0.3, remat="none"),
    AudioTowerConfig(128, 1, 16, 2, 32, 4, 24, dtype="float32", remat="none"),
    Vocabulary(text_size=256, codebook_size=SIZES.codebook_size, num_streams=STREAMS),
)
TEXT, AUDIO = SamplingConfig(0.9, 0, 1, 30, 30), SamplingConfig(0.9, 0, 2.0, 45, 45)
BOTH = LoopConfig(TEXT, AUDIO, ("text", "audio"))
ENGINE = EngineConfig(rows=2, context=256, page=16, chunk=32, steps=3)


@pytest.fixture(scope="module")
def codec():
    """Loud enough that a seam would be seen, and never so loud that it is clipped."""
    parameters = functional.initialize(SIZES)
    rng = np.random.default_rng(0)
    for name in parameters:
        if name.endswith("embed"):
            parameters[name] = 0.1 * rng.normal(size=parameters[name].shape).astype(np.float32)
    return LoadedXCodec(parameters, SIZES)


@pytest.fixture(scope="module")
def generator(codec):
    return Generator(random_model(CONFIG), ByteTokenizer(), codec)


def asked(words: str) -> list[Message]:
    return [Message("user", "text", words)]


def pieces(ids, rng):
    while ids:
        count = rng.randrange(1, 4)
        yield ids[:count]
        ids = ids[count:]


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize("damage", [0.0, 0.3])
def test_text_grows_by_whole_characters_to_the_whole(tmp_path, kind, damage):
    tokenizer = ByteTokenizer() if kind == "byte" else learn_bpe([WRITTEN], 300, tmp_path / "tokenizer.json")
    rng = random.Random(0)
    ids = [i if rng.random() >= damage else rng.randrange(tokenizer.size) for i in tokenizer.encode(WRITTEN)]
    stream = TextStream(tokenizer)
    deltas = [stream.add(part) for part in pieces(ids, rng)]
    assert "".join([*deltas, stream.end()]) == tokenizer.decode(ids)
    if not damage:
        assert not any("\ufffd" in delta for delta in deltas) and sum(map(bool, deltas)) > 5


def test_a_character_that_never_ends_comes_last():
    stream = TextStream(ByteTokenizer())
    assert [stream.add([65]), stream.add([0xE2]), stream.add([0x82]), stream.end()] == ["A", "", "", "\ufffd"]


@pytest.mark.parametrize("strides", [SIZES.strides, (8, 5, 4, 2)])
def test_a_codec_s_context_is_what_its_samples_depend_on(strides):
    """One frame to either side of it changes nothing, the frames within do."""
    semantic = dataclasses.replace(
        SIZES.semantic,
        conv_strides=(5, 2, 2, 2, 2, 2, strides[-1]),
        conv_kernels=(10, 3, 3, 3, 3, 2, strides[-1]),
    )
    config = dataclasses.replace(SIZES, strides=strides, semantic=semantic)
    shapes, rng = functional.initialize(config), np.random.default_rng(1)
    codec = LoadedXCodec(shapes, config)
    parameters = {n: rng.normal(size=x.shape).astype(np.float32) * 0.3 for n, x in shapes.items()}
    quantized = rng.normal(size=(1, 48, config.codebook_width)).astype(np.float32)
    changed = quantized.copy()
    changed[0, 24] += 1
    module = functional.build(parameters, config)
    moved = (
        np.asarray(module.synthesize(changed) != module.synthesize(quantized))[0].reshape(48, -1).any(axis=1)
    )
    first, last = np.flatnonzero(moved)[[0, -1]]
    assert codec.context == max(24 - first, last - 24) == 10


@pytest.mark.parametrize("frames, step", [(1, 1), (9, 1), (64, 1), (64, 7), (150, 150), (250, 3)])
def test_chunks_of_sound_are_the_whole_without_a_seam(codec, frames, step):
    vocabulary = CONFIG.vocabulary
    codes = np.random.default_rng(frames).integers(0, SIZES.codebook_size, (frames, STREAMS))
    rows = list(delay(vocabulary.codes_to_ids(codes), vocabulary))
    stream, chunks = AudioStream(codec, vocabulary), []
    for start in range(0, len(rows), step):
        chunks += stream.add(rows[start : start + step])
        if step == 1:  # a sample is out as soon as what it depends on is there
            assert bool(chunks) == (start + 1 >= 1 + (STREAMS - 1) + codec.context)
    chunks += stream.add([], last=True)
    (whole,) = codec.decode([codes])
    assert 1e-3 < np.abs(whole).max() < 1
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5)
    if step == 1 and frames == 64:
        sizes = [len(chunk) // codec.hop for chunk in chunks[:5]]
        assert sizes == [1, 2, 4, 8, 16]


def test_rows_that_hold_no_frame_give_no_sound(codec):
    stream = AudioStream(codec, CONFIG.vocabulary)
    assert list(stream.add([CONFIG.vocabulary.stream_pads()], last=True)) == []


def run(engine: Engine, tasks):
    async def all_of_them():
        return await asyncio.wait_for(
            asyncio.gather(*(task() for task in tasks), return_exceptions=True), 300
        )

    return asyncio.run(all_of_them())


async def read(stream):
    return [event async for event in stream]


def test_streams_of_many_at_once_are_the_replies(generator):
    words = [f"request {n} " + "rain " * n for n in range(5)]
    with Engine(generator, ENGINE) as engine:

        async def one(n):
            for _ in range(n):  # one after the other
                await asyncio.sleep(0)
            return await read(engine.submit(asked(words[n]), BOTH, seed=n))

        found = run(engine, [lambda n=n: one(n) for n in range(5)])
        assert engine.active == engine.waiting == 0
    for n, events in enumerate(found):
        config = dataclasses.replace(BOTH, seed=n)
        (reply,) = generator.reply([asked(words[n])], config)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == reply.text
        sound = [e.samples for e in events if isinstance(e, AudioDelta)]
        assert len(sound) > 2 and all(e.segment == 1 for e in events if isinstance(e, AudioDelta))
        np.testing.assert_allclose(np.concatenate(sound), reply.audio, atol=1e-5)
        assert [e for e in events if isinstance(e, SegmentEnd)] == [
            SegmentEnd(0, "text", False), SegmentEnd(1, "audio", False)
        ]  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("length", [5, 29, 30, 40])
def test_a_stream_begins_with_what_it_is_given(generator, guidance, length):
    """Some of it, all but a token, and all that a segment holds, which needs no step."""
    begun = "It is raining, then a dog barks."[:length].ljust(length, ".")
    config = LoopConfig(dataclasses.replace(TEXT, guidance=guidance), AUDIO, ("text",), 1)
    with Engine(generator, ENGINE) as engine:
        (events,) = run(engine, [lambda: read(engine.submit(asked("rain"), config, begun=begun))])
    (reply,) = generator.reply([asked("rain")], config, begun=[begun])
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == reply.text and said.startswith(begun[:30])
    assert events[-1] == SegmentEnd(0, "text", False)


def test_a_stream_begins_with_text_alone(generator):
    with Engine(generator, ENGINE) as engine:

        async def ask():
            engine.submit(asked("rain"), dataclasses.replace(BOTH, modalities=("audio",)), begun="A dog")

        (fault,) = run(engine, [ask])
    assert isinstance(fault, GeneratorError) and "needs text first" in str(fault)


LONG = LoopConfig(SamplingConfig(0.9, 0, 1, 200, 200), AUDIO, ("text",), 1)


@pytest.mark.parametrize("how", ["cancel", "break", "task", "unread"])
def test_who_leaves_frees_a_row(generator, how):
    with Engine(generator, ENGINE) as engine:

        async def leave():
            stream = engine.submit(asked("long"), LONG)
            if how == "unread":
                return
            await anext(stream)
            if how == "cancel":
                stream.cancel()
                assert [e async for e in stream] == []
            if how == "task":
                reader = asyncio.create_task(read(stream))
                del stream
                await asyncio.sleep(0)
                reader.cancel()
                await asyncio.wait([reader])
                del reader

        async def stay():
            return await read(engine.submit(asked("short"), BOTH))

        *_, events = run(engine, [leave, leave, stay])
        assert events[-1] == SegmentEnd(1, "audio", False)
        core = engine._core
    assert core.is_idle and core.memory.pool.free + core.memory.kept == core.memory.pool.size


def test_a_fault_of_one_dialogue_is_its_own(generator):
    table = np.asarray(generator.model.decoder.embed_tokens[...]).copy()
    table[CONFIG.vocabulary.text_start + ord("#")] = np.nan
    ill = random_model(CONFIG)
    ill.decoder.embed_tokens.set_value(table)
    # The healthy one does not write what poisons it.
    steady = LoopConfig(SamplingConfig(0, 0, 1, 4, 4), AUDIO, ("text",), 1)
    with Engine(dataclasses.replace(generator, model=ill), ENGINE) as engine:

        async def submit(words):
            return await read(engine.submit(asked(words), steady))

        fault, events = run(engine, [lambda: submit("a # b"), lambda: submit("a b")])
    assert isinstance(fault, PoisonedError)
    assert isinstance(events, PoisonedError) or isinstance(events[-1], SegmentEnd)
    assert not isinstance(events, PoisonedError)


def test_a_closed_engine_ends_what_it_has_and_takes_no_more(generator):
    engine = Engine(generator, ENGINE)

    async def ask():
        streams = [engine.submit(asked("long"), LONG) for _ in range(3)]
        await anext(streams[0])
        await asyncio.to_thread(engine.close)
        found = await asyncio.gather(*map(read, streams), return_exceptions=True)
        assert all(isinstance(error, EngineError) for error in found)
        with pytest.raises(EngineError, match="takes no more"):
            engine.submit(asked("late"), LONG)
        return True

    assert run(engine, [ask]) == [True]


def test_a_draining_engine_answers_what_it_has(generator):
    engine = Engine(generator, ENGINE)

    async def ask():
        streams = [engine.submit(asked("short"), BOTH) for _ in range(3)]
        await asyncio.to_thread(engine.close, drain=True)
        return [(await read(stream))[-1] for stream in streams]

    assert run(engine, [ask]) == [[SegmentEnd(1, "audio", False)] * 3]


def test_a_fault_of_the_engine_reaches_everybody(generator, monkeypatch):
    engine = Engine(generator, ENGINE)
    inside, both_are_inside = [], threading.Event()
    monkeypatch.setattr(engine._core, "decode", lambda: both_are_inside.wait(300) and 1 / 0)

    async def ask():
        inside.append(engine.submit(asked("short"), BOTH))
        if len(inside) == 2:
            both_are_inside.set()
        return await read(inside[-1])

    assert all(isinstance(error, ZeroDivisionError) for error in run(engine, [ask, ask]))
    engine.close()
