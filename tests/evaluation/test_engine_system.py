"""A run of ours under test, over an engine that tells what it was asked; test_systems.py has the real one."""

import asyncio
import contextlib
import re

import numpy as np
import pytest
from offline_helpers import PROMPTING, TellingEngine, clip, sound_of
from runner_helpers import Toy, toy_files

from bagpiper_jax import audio
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.protocol import Asked
from bagpiper_jax.evaluation.running import inference
from bagpiper_jax.evaluation.systems import engine as engines
from bagpiper_jax.evaluation.systems.config import CheckpointSystem
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.requests import EngineError, PoisonedError

ROWS = 4


class Counting(TellingEngine):
    """Knows its loops, and how many of its rows are in use."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.loops = []

    def submit(self, dialogue, loop, seed=None, begun=""):
        self.loops.append(loop)
        return super().submit(dialogue, loop, seed, begun)

    @property
    def active(self):
        return min(self.inside, ROWS)


@contextlib.asynccontextmanager
async def under_test(engine, monkeypatch):
    monkeypatch.setattr(engines, "identity", lambda config: {"kind": "checkpoint"})
    monkeypatch.setattr(engines, "_SAMPLE_SECONDS", 0)
    system = engines.CheckpointUnderTest(
        CheckpointSystem("runs/sft", engine=EngineConfig(rows=ROWS)), PROMPTING, engine
    )
    watching = asyncio.ensure_future(system.watch())
    try:
        yield system
    finally:
        watching.cancel()
        system.tell()


def answers(engine, monkeypatch, folder, *asked):
    async def all_of():
        async with under_test(engine, monkeypatch) as system:
            return await asyncio.gather(
                *(system.answer(f"i{n}", each, folder / f"{n}.wav") for n, each in enumerate(asked))
            )

    return asyncio.run(all_of())


def test_clips_texts_and_requests_are_put_as_the_model_knows_them(tmp_path, monkeypatch):
    sound, engine = clip(tmp_path / "a.wav"), Counting()
    asked = (
        Asked("Which?", sound, "text", 40),
        Asked("", sound),
        Asked("Say it.", None, "text"),
        Asked("rain", None, "audio"),
    )
    heard, caption, said, made = answers(engine, monkeypatch, tmp_path, *asked)
    assert set(engine.asked) == {
        "8000 samples | Which? | None",
        "8000 samples | None",
        "Say it. | None",
        "rain | None",
    }
    assert heard.text == "<think>\n1. Think.\n</think>\n\n8000 samples | Which? | None", (
        "as it came, reasoning included"
    )
    assert (caption.audio, said.audio, said.text.rpartition("\n")[2]) == (None, None, "Say it. | None")
    np.testing.assert_allclose(
        audio.read(made.audio, min_seconds=0), sound_of([Message("user", "text", "rain")]), atol=0.51 / 32768
    )
    loops = dict(zip(engine.asked, engine.loops, strict=True))
    asked_of = loops["8000 samples | Which? | None"]
    assert (asked_of.modalities, asked_of.max_segments, asked_of.text.max_steps) == (("text",), 1, 40)
    assert loops["rain | None"].modalities == ("text", "audio")


def test_a_reply_that_is_begun_goes_on_from_there(tmp_path, monkeypatch):
    (said,) = answers(Counting(), monkeypatch, tmp_path, Asked("Which?", begun="So: "))
    assert said.text.rpartition("\n")[2] == "So: Which? | None"


def test_a_fault_of_one_question_is_its_own_and_a_broken_engine_ends_the_run(tmp_path, monkeypatch):
    engine = Counting(
        {"long": EngineError("too long"), "bad": PoisonedError("no numbers"), "odd": KeyError("x")}
    )
    questions = [Asked(text) for text in ("long", "bad", "odd", "cut", "fine")]
    *faulty, cut, fine = answers(engine, monkeypatch, tmp_path, *questions)
    assert [reply.fault for reply in faulty] == ["too_long", "poisoned", "error_KeyError"]
    assert not fine.fault and not cut.fault
    with pytest.raises(RuntimeError, match="the device is lost"):
        answers(Counting(breaks_after=1), monkeypatch, tmp_path, *questions)


def test_the_rows_are_full_until_the_queue_is_empty(tmp_path, monkeypatch, caplog):
    toy, engine = Toy(toy_files(tmp_path / "toy", 200), None), Counting()

    async def run():
        async with under_test(engine, monkeypatch) as system:
            return await inference.replies(system, toy, list(toy.items()), tmp_path / "out")

    with caplog.at_level("INFO"):
        found = asyncio.run(run())
    assert len(found) == 200 and engine.most == 2 * ROWS
    (line,) = [line for line in caplog.messages if "rows in use" in line]
    assert int(re.search(r"empty: (\d+) % of 4", line)[1]) >= 90, line
