"""The real engine, with the shipped nano weights, is kept full until the queue is empty, and says so."""

import asyncio
import re

import numpy as np
import pytest
import soundfile
from runner_helpers import Toy, toy_files

from bagpiper_jax import audio, configuration
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item
from bagpiper_jax.evaluation.running import inference
from bagpiper_jax.evaluation.systems import engine as engines
from bagpiper_jax.evaluation.systems.config import CheckpointSystem
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.replies import load_generator
from bagpiper_jax.generation.sampling import TextSampling
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint

ENGINE = EngineConfig(rows=8, context=640, page=64, chunk=128, steps=4)
ITEMS = 64
LOOP = LoopConfig(text=TextSampling(temperature=0.0))
QUESTIONS = ("What is heard first?", "Which sound comes last, and what stands before it?", "")


def _asked(clips, count: int) -> list[Item]:
    """Questions whose clips, words and answers are of all lengths: every answer ends in its own time."""
    rng = np.random.default_rng(0)
    asked = (
        Asked(QUESTIONS[n % len(QUESTIONS)], clips[n % len(clips)], "text", int(rng.integers(4, 96)))
        for n in range(count)
    )
    return [Item(f"i{n}", each, {}) for n, each in enumerate(asked)]


@pytest.fixture
def clips(tmp_path):
    rng, found = np.random.default_rng(1), []
    for number, seconds in enumerate((0.4, 1.0, 2.2)):
        found.append(tmp_path / f"{number}.wav")
        soundfile.write(found[-1], 0.2 * rng.normal(size=int(seconds * audio.SAMPLE_RATE)), audio.SAMPLE_RATE)
    return found


@pytest.mark.slow
def test_the_engine_is_full_until_the_queue_is_empty(tmp_path, clips, capsys):
    given = ["--gin_file=gin/runs/nano_demo.gin", f"--gin.ImportConfig.output={str(tmp_path / 'nano')!r}"]
    checkpoint = import_checkpoint(configuration.load(ImportConfig, given, ""))
    generator, toy = load_generator(checkpoint), Toy(toy_files(tmp_path / "toy", 1), None)
    config = CheckpointSystem(str(checkpoint), loop=LOOP, engine=ENGINE)

    async def replies():
        system = engines.CheckpointUnderTest(config, Prompting(generator, LOOP), engine)
        watching = asyncio.ensure_future(system.watch())
        try:
            return await inference.replies(system, toy, _asked(clips, ITEMS), tmp_path / "out")
        finally:
            watching.cancel()
            system.tell()

    with Engine(generator, ENGINE) as engine:
        found = asyncio.run(replies())
    assert len(found) == ITEMS and not {reply.fault for reply in found} - {""}
    assert len({len(reply.text) for reply in found}) > 10, "answers are of many lengths"
    share = re.search(r"rows in use until the queue was empty: (\d+) % of 8", capsys.readouterr().err)
    assert share and int(share[1]) >= 90, share
