"""Who gets which row and which pages, on a device that keeps books: thousands of dialogues, and nothing is lost."""

import random

import numpy as np
import pytest
from flax import nnx
from ledger import Ledger
from plain_decoding import CONFIG

from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation import engine, memory
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.pool import page_bytes
from bagpiper_jax.generation.requests import PoisonedError
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper

PAGE = 8


@pytest.fixture
def books(monkeypatch):
    """(ledger, engine) with `pages` pages."""

    def open_books(pages: int, rows: int = 6, poison: float = 0.0, seed: int = 0):
        ledger = Ledger(random.Random(seed), PAGE, poison)
        monkeypatch.setattr(engine, "programs", ledger.programs)
        monkeypatch.setattr(memory, "empty_pages", ledger.empty_pages)
        size = pages * page_bytes(CONFIG.decoder, PAGE) / 2**30
        config = EngineConfig(rows, size, context=140, page=PAGE, chunk=16, steps=4)
        model = nnx.eval_shape(lambda: Bagpiper(CONFIG, rngs=nnx.Rngs(0)))
        ledger.core = engine.EngineCore(model, config)
        return ledger, ledger.core

    return open_books


def some_prompts(rng: random.Random, count: int):
    """Some with sound, and most with one of two beginnings of several pages."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    openings = [Message("system", "text", numbers.integers(0, 20, n)) for n in (19, 30)]
    found = []
    for _ in range(count):
        messages = rng.choices([[], *([opening] for opening in openings)])[0]
        if rng.random() < 0.2:
            messages = [*messages, Message("user", "audio", numbers.normal(size=9000).astype(np.float32))]
        messages = [*messages, Message("user", "text", numbers.integers(0, 20, rng.randrange(1, 25)))]
        found.append(render_prompt(messages, CONFIG.vocabulary))
    return found


def any_order(rng: random.Random):
    """Settings of any kind, and text to begin with where it can be."""
    text, audio = (
        SamplingConfig(1.0, 5, rng.choice((1.0, 1.0, 2.0)), 1, rng.randrange(1, 12)) for _ in range(2)
    )
    modalities = rng.choice(((), ("text",), ("audio",), ("text", "audio"), ("text", "text")))
    begun = rng.choices(range(20), k=rng.randrange(14)) if modalities[:1] == ("text",) else ()
    return LoopConfig(text, audio, modalities, max_segments=max(len(modalities), rng.randrange(1, 4))), begun


def drive(ledger: Ledger, core: engine.EngineCore, rng: random.Random, count: int, cancelled: float):
    """Submits and cancels at random times; the requests, in the order of their seeds."""
    prompts, pending, doomed = some_prompts(rng, 25), list(range(count)), []
    while pending or not core.is_idle:
        while pending and rng.random() < 0.5:
            seed = pending.pop()
            config, begun = any_order(rng)
            request = core.request(rng.choice(prompts), config, seed, begun)
            ledger.requests[seed] = request
            core.enqueue(request)
            if rng.random() < cancelled:
                doomed.append(request)
        while doomed and rng.random() < 0.4:
            core.cancel(doomed.pop(rng.randrange(len(doomed))))
        for _ in range(rng.randrange(4)):
            core.feed()
        core.decode()
        assert len(core.active) <= core.config.rows
    return [ledger.requests[seed] for seed in range(count)]


@pytest.mark.parametrize("count, pages, poison", [(5000, 80, 0.002), (500, 60, 0.0), (500, 400, 0.0)])
def test_no_row_and_no_page_is_lost_or_read_by_another(books, count, pages, poison):
    """A fifth are cancelled. With pages for all, for few, and for little more than one."""
    rng = random.Random(count + pages)
    ledger, core = books(pages, poison=poison)
    requests = drive(ledger, core, rng, count, cancelled=0.2)
    assert all(request.ended for request in requests)
    assert not any(request.pages or request.branch or request.aside for request in requests)
    ill = [request for request in requests if request.error is not None]
    assert all(isinstance(request.error, PoisonedError) for request in ill) and bool(ill) == bool(poison)
    whole = sum(bool(request.segments) for request in requests)
    assert whole > 0.7 * count
    pool = core.memory.pool
    assert pool.free + core.memory.kept == pool.size
    core.memory.prefixes.forget(pool.size)
    assert len(core.memory.prefixes) == 0 and pool.free + core.memory.kept == pool.size


def test_equal_beginnings_are_fed_once(books):
    """Whole pages of them, whether those who share them come together or later; sound counts by its samples."""
    ledger, core = books(400)
    fed = []
    prefill = core._programs.prefill
    core._feeder._programs = core._programs._replace(
        prefill=lambda *arguments: fed.append(int(arguments[6].sum())) or prefill(*arguments)
    )
    opening = Message("system", "text", np.arange(20).repeat(2))
    waves = np.random.default_rng(0).normal(size=(2, 9000)).astype(np.float32)

    def slots_fed(*later: Message) -> list[int]:
        """Those of each batch of prompts, and how long the prompts are."""
        fed.clear()
        prompts = [render_prompt([opening, *([each] if each else [])], CONFIG.vocabulary) for each in later]
        config = LoopConfig(*[SamplingConfig(0, 0, 1, 1, 3)] * 2, ("text",), 1)
        for prompt in prompts:
            seed = len(ledger.requests)
            ledger.requests[seed] = core.add(prompt, config, seed)
        while not core.is_idle:
            while core.feed():
                pass
            core.decode()
        return [sum(fed), *map(len, prompts)]

    words = [Message("user", "text", np.array([n, 3])) for n in range(5)]
    total, *lengths = slots_fed(*words[:3])
    shared = 40 // PAGE * PAGE
    assert total == sum(lengths) - 2 * shared
    total, length = slots_fed(words[4])
    assert total == length - shared
    total, length = slots_fed(words[0])  # all of it but its last page
    assert total == length % PAGE
    sounds = [Message("user", "audio", wave) for wave in waves]
    total, *lengths = slots_fed(sounds[0], sounds[1])
    assert total == sum(lengths) - 2 * shared
    total, length = slots_fed(sounds[0])
    assert total == length % PAGE


def test_kept_pages_make_room_before_a_dialogue_has_to(books):
    ledger, core = books(64)
    for seed in range(30):
        prompt = render_prompt([Message("user", "text", np.full(60, seed % 20))], CONFIG.vocabulary)
        config = LoopConfig(*[SamplingConfig(0, 0, 1, 1, 3)] * 2, ("text",), 1)
        ledger.requests[seed] = core.add(prompt, config, seed)
        while not core.is_idle:
            core.feed()
            core.decode()
    pool = core.memory.pool
    assert 0 < len(core.memory.prefixes) <= pool.size and pool.free + core.memory.kept == pool.size
