"""One answer as it comes: its text on the screen, its sound in a file that grows."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from bagpiper_jax.audio import GrowingWav
from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.generation.streaming import AudioDelta, Event, SegmentEnd, TextDelta

Say = Callable[[str], None]


def _print(text: str) -> None:
    print(text, end="", flush=True)


def stream(
    generator: Generator,
    config: EngineConfig,
    dialogue: Sequence[Message],
    loop: LoopConfig,
    output: str | os.PathLike,
    say: Say = _print,
) -> float | None:
    """Answers a dialogue, and returns the seconds of its audio, or None where it has none.

    Args:
        generator: the model.
        config: sizes of the engine.
        dialogue, loop: as `Engine.submit` takes them.
        output: a WAV, which begins with the first sound and can be played while it grows.
        say: is called with more text as it comes.

    Raises:
        GeneratorError, DialogueError, EngineError, PoisonedError: as the engine's stream.
    """

    async def answer() -> float | None:
        with Engine(generator, config) as engine:
            async with contextlib.aclosing(engine.submit(dialogue, loop)) as events:
                return await followed(events, output, generator.sample_rate, say)

    return asyncio.run(answer())


async def followed(
    events: AsyncIterator[Event], output: str | os.PathLike, rate: int, say: Say
) -> float | None:
    """Says the texts of a stream and writes its last audio segment; seconds of that, or None without sound.

    A fault leaves a whole file of what had come. Raises what ends the stream before its time.
    """
    with _Sound(output, rate) as sound:
        said: int | None = None
        async for event in events:
            match event:
                case TextDelta():
                    say(event.text if said in (None, event.segment) else f"\n{event.text}")
                    said = event.segment
                case AudioDelta():
                    sound.add(event.segment, event.samples)
                case SegmentEnd(modality="audio"):
                    sound.begin(event.segment)
                case SegmentEnd() if said == event.segment:
                    say("\n")
    return sound.seconds


class _Sound:
    """The sound of the last segment that has any."""

    def __init__(self, path: str | os.PathLike, rate: int):
        self._path, self._rate = Path(path), rate
        self._wav: GrowingWav | None = None
        self._segment: int | None = None

    @property
    def seconds(self) -> float | None:
        return self._wav.samples / self._rate if self._wav is not None and self._wav.samples else None

    def begin(self, segment: int) -> None:
        """Drops the sound of an earlier segment."""
        if self._wav is not None and segment != self._segment:
            self._wav.restart()
        self._segment = segment

    def add(self, segment: int, samples) -> None:
        if self._wav is None:
            self._wav = GrowingWav(self._path, self._rate)
        self.begin(segment)
        self._wav.add(samples)

    def __enter__(self) -> "_Sound":
        return self

    def __exit__(self, *_) -> None:
        if self._wav is not None:
            self._wav.close()
            if not self._wav.samples:
                self._path.unlink()
