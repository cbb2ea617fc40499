"""Dialogues of all kinds and lengths, given to an engine at random times."""

import dataclasses
import random

import numpy as np
from plain_decoding import CONFIG, GREEDY_AUDIO, GREEDY_TEXT, plain_decode

from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.pool import page_bytes
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper

ORDERS = (("text",), ("audio",), ("text", "audio"), ("audio", "text"))
SMALL = EngineConfig(rows=4, context=96, page=8, chunk=16, steps=3)


def memory_of(pages: int) -> float:
    """GiB of so many pages of the small engine."""
    return pages * page_bytes(CONFIG.decoder, SMALL.page) / 2**30


def dialogue(rng: random.Random) -> list[Message]:
    numbers = np.random.default_rng(rng.randrange(2**32))
    text = Message("user", "text", numbers.integers(0, 20, rng.randrange(1, 30)))
    if rng.random() < 0.6:
        return [text]
    wave = numbers.normal(size=int(16_000 * rng.uniform(0.1, 1.6))).astype(np.float32)
    return [Message("user", "audio", wave), text]


def drive(core: EngineCore, rng: random.Random, pending: list, doomed=()) -> list:
    """Submits what `EngineCore.add` takes at random times between random moves; cancels those of the doomed places."""
    requests, pending = {}, list(enumerate(pending))
    rng.shuffle(pending)
    while pending or not core.is_idle:
        while pending and rng.random() < 0.4:
            place, asked = pending.pop()
            requests[place] = core.add(*asked)
        for place in doomed:
            if place in requests and rng.random() < 0.1:
                core.cancel(requests[place])
        for _ in range(rng.randrange(3)):
            core.feed()
        core.decode()
    return [requests[place] for place in sorted(requests)]


def asked_for(rng: random.Random):
    modalities, guidance = rng.choice(ORDERS), rng.choice((1.0, 3.0))
    audio = dataclasses.replace(GREEDY_AUDIO, guidance=guidance, max_steps=rng.randrange(5, 10))
    text = dataclasses.replace(GREEDY_TEXT, guidance=rng.choice((1.0, 1.0, 2.0)))
    prompt = render_prompt(dialogue(rng), CONFIG.vocabulary)
    begun = rng.choices(range(20), k=rng.randrange(9)) if modalities[0] == "text" else ()
    return prompt, LoopConfig(text, audio, modalities, len(modalities)), None, begun


def require_as_alone(core: EngineCore, model: Bagpiper, rng: random.Random, count: int) -> None:
    """Asserts that so many dialogues, a sixth of them cancelled, are answered as each decoded alone without a cache."""
    pending = [asked_for(rng) for _ in range(count)]
    doomed = rng.sample(range(count), count // 6)
    for place, request in enumerate(drive(core, rng, pending, doomed)):
        prompt, config, _, begun = pending[place]
        guidance = config.audio.guidance
        expected = plain_decode(model, prompt, config.modalities, guidance, config.text, config.audio, begun)
        if place not in doomed:
            assert [s.modality for s in request.segments] == list(config.modalities)
        for segment, rows in zip(request.segments, expected, strict=place not in doomed):
            np.testing.assert_array_equal(segment.rows, rows)
