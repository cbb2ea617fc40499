"""An engine without a model, whose answers tell what was asked, and the files of offline generation."""

import asyncio
import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile

from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.offline import answering
from bagpiper_jax.generation.offline.folder import ReplyFolder
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.offline.records import RequestFile
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.streaming import AudioDelta, SegmentEnd, TextDelta
from bagpiper_jax.text import ByteTokenizer

RATE = 16_000
TUNED = Generator(None, ByteTokenizer(), SimpleNamespace(sample_rate=RATE), {"stage": "sft"})
PROMPTING = Prompting(TUNED, LoopConfig())


def said_of(dialogue, seed=None, begun="") -> str:
    """What the engine answers: all that it was asked."""
    words = [m.content if m.modality == "text" else f"{len(m.content)} samples" for m in dialogue]
    return f"{begun}{' | '.join(words)} | {seed}"


def sound_of(dialogue) -> np.ndarray:
    """A sound that is no other dialogue's."""
    seed = sum(said_of(dialogue).encode())
    return np.random.default_rng(seed).uniform(-0.5, 0.5, 480).astype(np.float32)


class TellingEngine:
    """Answers after a number of turns that differs from dialogue to dialogue.

    Attributes:
        faults: text → what is raised instead of an answer to it.
        breaks_after: answers after which the engine breaks.
        asked: what was asked, in that order.
        most: the most dialogues that were inside at once.
    """

    def __init__(self, faults=(), breaks_after=None):
        self.faults, self.breaks_after = dict(faults), breaks_after
        self.asked: list[str] = []
        self.inside = self.most = self._ended = 0
        self.is_open = True

    def submit(self, dialogue, loop, seed=None, begun=""):
        self.asked.append(said_of(dialogue, seed, begun))
        return self._events(dialogue, loop, said_of(dialogue, seed, begun), len(self.asked))

    async def _events(self, dialogue, loop, said, number):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for _ in range(number * 7 % 31):
                await asyncio.sleep(0)
            if fault := self.faults.get(str(dialogue[-1].content)):
                raise fault
            if self._ended == self.breaks_after:
                self.is_open = False
                raise RuntimeError("the device is lost")
            self._ended += 1
            for delta in ("<think>\n1. Think.\n</think>\n\n", said[:3], said[3:]):
                yield TextDelta(0, delta)
            yield SegmentEnd(0, "text", True)
            if "audio" in loop.modalities:
                for chunk in np.array_split(sound_of(dialogue), 3):
                    yield AudioDelta(1, chunk)
                yield SegmentEnd(1, "audio", "cut" not in said)
        finally:
            self.inside -= 1


def requests_file(folder: Path, lines) -> Path:
    """A JSONL of objects, or of lines as bytes."""
    folder.mkdir(exist_ok=True)
    path = folder / "requests.jsonl"
    as_bytes = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in as_bytes))
    return path


def clip(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(int(RATE * seconds)) / 9) / 2, RATE)
    return path


def answer_file(path: Path, output: Path, engine: TellingEngine, rows: int = 2, settings=None) -> str:
    return answer(RequestFile(path), output, engine, rows, settings)


def answer(source, output: Path, engine: TellingEngine, rows: int = 2, settings=None) -> str:
    """What the job says in the end."""

    def opened(*_):
        return contextlib.nullcontext(engine)

    original, answering.Engine = answering.Engine, opened
    try:
        with ReplyFolder(output, settings or {"checkpoint": "run"}) as folder:
            answering.answer_all(PROMPTING, EngineConfig(rows=rows), source, folder)
            return folder.finish()
    finally:
        answering.Engine = original


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_below(folder: Path) -> dict[str, bytes]:
    """Path → content of every file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
