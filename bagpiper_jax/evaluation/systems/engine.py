"""A run of ours under test: many questions through one engine, whose rows are kept full."""

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bagpiper_jax import audio, digests, files
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.evaluation.systems import clips
from bagpiper_jax.evaluation.systems.config import CheckpointSystem
from bagpiper_jax.generation.offline.collecting import NO_SOUND, collected
from bagpiper_jax.generation.offline.faults import fault_of
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.replies import load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.runs.progress import Underway
from bagpiper_jax.training.checkpoints import find_checkpoint

_log = logging.getLogger(__name__)
_ASKED = 2
"""Questions for each row whose clips are in memory: no row waits for a clip to be read."""
_SAMPLE_SECONDS = 0.05


class CheckpointUnderTest:
    """A `System`. Use `opened`."""

    costs = True

    def __init__(self, config: CheckpointSystem, prompting: Prompting, engine: Engine):
        self.name = config.name or Path(config.checkpoint).absolute().name
        self.identity: dict[str, Any] = identity(config)
        self.width, self.remarks = config.engine.rows, []
        self._config, self._prompting, self._engine = config, prompting, engine
        self._room = asyncio.Semaphore(_ASKED * self.width)
        self._rate = prompting.generator.sample_rate
        self._waiting = 0
        self._used: list[float] = []

    async def answer(self, item: str, asked: Asked, sound: Path) -> Reply:
        """As `System.answer`."""
        self._waiting += 1
        try:
            async with self._room:
                return await self._answer(asked, sound)
        except Exception as error:
            return clips.fault(fault_of(error, self._engine))
        finally:
            self._waiting -= 1

    async def _answer(self, asked: Asked, sound: Path) -> Reply:
        prompting, loop = self._prompting, self._loop(asked)
        if asked.clip is not None:
            heard = await asyncio.to_thread(clips.read, asked.clip, self._config.max_seconds)
            dialogue = prompting.about(heard, asked.text)
        elif asked.wants == "audio":
            dialogue = prompting.for_audio(asked.text)
        else:
            dialogue = [Message("user", "text", asked.text)]
        async with contextlib.aclosing(self._engine.submit(dialogue, loop, begun=asked.begun)) as stream:
            reply = await collected(stream)
        detail = "" if reply.complete else "cut at its longest"
        if asked.wants == "text":
            return Reply(reply.text, detail=detail)
        if reply.audio is None or not len(reply.audio):
            return Reply(reply.text, fault="no_sound", detail=NO_SOUND)
        await asyncio.to_thread(_write, sound, audio.encode_wav(reply.audio, self._rate))
        return Reply(reply.text, sound, detail=detail)

    def _loop(self, asked: Asked) -> LoopConfig:
        loop = self._prompting.loop
        if asked.wants == "text":
            loop = dataclasses.replace(loop, modalities=("text",), max_segments=1)
        else:
            loop = self._prompting.loop_for(hears=False)
        most = asked.max_tokens
        text = dataclasses.replace(loop.text, max_steps=most, min_steps=min(loop.text.min_steps, most))
        return dataclasses.replace(loop, text=text)

    async def watch(self) -> None:
        """Samples the rows in use, while there are questions for all of them."""
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            if self._waiting >= self.width:
                self._used.append(min(self._engine.active, self.width) / self.width)

    def tell(self) -> None:
        """Logs how full the engine was."""
        if self._used:
            share = sum(self._used) / len(self._used)
            _log.info("rows in use until the queue was empty: %.0f %% of %d", 100 * share, self.width)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)


def identity(config: CheckpointSystem) -> dict:
    """What replies depend on: where the model lies and how the engine is sized is not of it."""
    step = find_checkpoint(config.checkpoint)
    written = step / digests.FILE
    return {
        "kind": "checkpoint",
        "checkpoint": str(step),
        "content": digests.of_file(written) if written.exists() else None,
        "codec": config.codec,
        "tokenizer": config.tokenizer,
        "dtype": config.weights.dtype,
        "system_prompt": config.system_prompt,
        "loop": json.loads(json.dumps(dataclasses.asdict(config.loop))),
        "max_seconds": config.max_seconds,
    }


@contextlib.asynccontextmanager
async def opened(config: CheckpointSystem) -> AsyncIterator[CheckpointUnderTest]:
    """Loads the run and starts its engine. Raises as `load_generator`."""
    with Underway("loading the run"):
        generator = load_generator(config.checkpoint, config.codec, config.tokenizer, config.weights)
    prompting = Prompting(generator, config.loop, config.system_prompt)
    with Engine(generator, config.engine, fill=True) as engine:
        system = CheckpointUnderTest(config, prompting, engine)
        watching = asyncio.ensure_future(system.watch())
        try:
            yield system
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            system.tell()
