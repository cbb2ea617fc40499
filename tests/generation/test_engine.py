"""Continuous batching against decoding by the letter: any order, any mates, any memory, and nothing left behind."""

import dataclasses
import random
import types

import jax
import numpy as np
import pytest
from mixed_dialogues import SMALL, asked_for, dialogue, drive, memory_of, require_as_alone
from plain_decoding import CONFIG, GREEDY_AUDIO, GREEDY_TEXT, plain_decode, random_model

from bagpiper_jax.data.prompts import collate, fitting_shape
from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation import hearing
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.pool import PagePool, page_bytes, pages_for
from bagpiper_jax.generation.requests import EngineError, PoisonedError
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.mark.parametrize("rows, pages", [(4, 200), (8, 36)])
@pytest.mark.parametrize("count", [12, pytest.param(64, marks=pytest.mark.slow)])
def test_dialogues_at_random_times_equal_each_decoded_alone_without_a_cache(model, count, rows, pages):
    """With pages for all, and with so few that dialogues make room for older ones."""
    rng = random.Random(count)
    core = EngineCore(model, dataclasses.replace(SMALL, rows=rows, memory=memory_of(pages)))
    moved = []
    keep = core.memory.set_aside
    core.memory.set_aside = lambda request: moved.append(request) or keep(request)
    require_as_alone(core, model, rng, count)
    assert bool(moved) == (pages == 36)


def test_a_draw_depends_on_the_request_s_seed_alone(model):
    rng = random.Random(1)
    config = LoopConfig(
        SamplingConfig(0.9, 8, 1, 1, 7), SamplingConfig(0.9, 5, 2.0, 1, 9), ("text", "audio"), 2, seed=3
    )
    prompts = [render_prompt(dialogue(rng), CONFIG.vocabulary) for _ in range(6)]
    core = EngineCore(model, SMALL)
    mixed = [(prompt, config, seed) for seed, prompt in enumerate(prompts)]
    mates = [asked_for(rng) for _ in range(4)]
    mates += [(prompts[0], dataclasses.replace(config, text=SamplingConfig(2.0, 0, 1, 7, 7)))]
    together = drive(core, rng, mixed + mates)
    for (prompt, _, seed), request in zip(mixed, together, strict=False):
        alone = core.add(prompt, config, seed)
        while not core.is_idle:
            core.feed()
            core.decode()
        for ours, theirs in zip(request.segments, alone.segments, strict=True):
            np.testing.assert_array_equal(ours.rows, theirs.rows)


def test_nothing_is_compiled_after_the_warm_up(model):
    core = EngineCore(model, dataclasses.replace(SMALL, memory=memory_of(40)))
    core.warm_up()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        rng = random.Random(2)
        hot = LoopConfig(SamplingConfig(1.0, 0, 2.0, 1, 5), SamplingConfig(1.0, 5, 1.0, 1, 9), max_segments=3)
        asked = [asked_for(rng) for _ in range(8)]
        drive(core, rng, asked + [(prompt, hot) for prompt, *_ in asked[:3]])
        assert not compiled
        jax.jit(lambda x: x + 41)(np.arange(97))
        assert compiled  # or the listener heard nothing
    finally:
        jax.monitoring.clear_event_listeners()


def test_a_poisoned_dialogue_ends_alone(model):
    """Its keys and values are no numbers, and its pages go to others afterwards."""
    table = np.asarray(model.decoder.embed_tokens[...]).copy()
    table[CONFIG.vocabulary.text_start + 7] = np.nan
    ill = random_model()
    ill.decoder.embed_tokens.set_value(jax.numpy.asarray(table))
    rng = random.Random(3)
    # No page is left unused, so that those of the poisoned serve others.
    core = EngineCore(ill, dataclasses.replace(SMALL, memory=memory_of(24)))
    config = LoopConfig(GREEDY_TEXT, dataclasses.replace(GREEDY_AUDIO, guidance=2.0), ("audio",), 1)
    healthy = [
        render_prompt(
            [Message("user", "text", np.random.default_rng(n).integers(8, 20, 20))], CONFIG.vocabulary
        )
        for n in range(6)
    ]
    poison = render_prompt([Message("user", "text", np.array([3, 7, 4] * 8))], CONFIG.vocabulary)
    asked = [(prompt, config) for prompt in healthy]
    found = drive(core, rng, [asked[0], (poison, config), *asked[1:3], (poison, config), *asked[3:]])
    for place in (1, 4):
        assert isinstance(found[place].error, PoisonedError) and found[place].ended
    rest = [request for place, request in enumerate(found) if place not in (1, 4)]
    for prompt, request in zip(healthy, rest, strict=True):
        (expected,) = plain_decode(model, prompt, ("audio",), 2.0)
        assert request.error is None
        np.testing.assert_array_equal(request.segments[0].rows, expected)


def test_what_can_never_be_answered_is_refused_at_once(model):
    core = EngineCore(model, dataclasses.replace(SMALL, memory=memory_of(10)))
    prompt = render_prompt([Message("user", "text", np.arange(20))], CONFIG.vocabulary)
    with pytest.raises(EngineError, match="shorten max_steps or the prompt"):
        core.add(prompt, LoopConfig())
    with pytest.raises(EngineError, match="give it more memory"):
        core.add(prompt, LoopConfig(GREEDY_TEXT, GREEDY_AUDIO, max_segments=5))
    assert core.is_idle


@pytest.mark.parametrize("modalities", [("audio",), ()])
def test_only_text_that_comes_first_can_be_begun(model, modalities):
    core = EngineCore(model, SMALL)
    prompt = render_prompt([Message("user", "text", np.arange(20))], CONFIG.vocabulary)
    with pytest.raises(EngineError, match="needs text first"):
        core.add(prompt, LoopConfig(GREEDY_TEXT, GREEDY_AUDIO, modalities, 1), begun=[3])
    assert core.is_idle


LEFT = {"bytes_limit": 3 * 2**30, "bytes_in_use": 2 * 2**30}


@pytest.mark.parametrize(
    "known, context, expected",
    [
        (LEFT, 10**7, 2**18),
        (LEFT, 125, 5 * 16),
        (None, 10**6, 2**19),
        (None, 10**7, 3 * 1_250_001),
    ],
)
def test_a_cache_takes_what_its_rows_need_and_half_of_what_is_left(monkeypatch, known, context, expected):
    """Pages of 2 KiB, 8 slots each. The device says that 1 of its 3 GiB is left, or nothing."""
    device = types.SimpleNamespace(memory_stats=lambda: known)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert page_bytes(CONFIG.decoder, SMALL.page) == 2048
    config = dataclasses.replace(SMALL, context=context, rows=2)
    assert pages_for(config, CONFIG.decoder) == expected + 1


def test_a_page_is_never_given_back_twice():
    pool = PagePool(4)
    pages = pool.take(3)
    assert sorted(pages) == [1, 2, 3] and pool.take(1) is None
    pool.give([2])
    with pytest.raises(KeyError):
        pool.give([2])


@pytest.mark.parametrize("seconds", [0.05, 0.7, 1.0, 3.9, 4.1, 9.3])
def test_windows_of_a_clip_equal_the_tower_over_the_whole(seconds):
    """A tower that attends to two chunks at a time; the last window of the longer clips has one."""
    tower = dataclasses.replace(CONFIG.tower, window_chunks=2)
    config = dataclasses.replace(CONFIG, tower=tower)
    model = random_model(config)
    wave = np.random.default_rng(0).normal(size=int(16_000 * seconds)).astype(np.float32)
    prompt = render_prompt([Message("user", "audio", wave)], CONFIG.vocabulary)
    batch = collate([prompt], fitting_shape([prompt], 1), config)
    whole = model.audio_features(batch.mel, batch.chunk_frames, batch.chunk_clip, batch.chunk_window)
    windows = [
        model.audio_features(*(x[None] for x in w)) for w in hearing.single(hearing.windows_of(wave, tower))
    ]
    found = hearing.features_of([np.asarray(w)[0] for w in windows], len(wave), tower)
    expected = np.asarray(whole)[0, batch.audio_slot[0][batch.audio_slot[0] >= 0]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
