"""Evaluators whose answers are known, and those that are installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Judged, Reply
from bagpiper_jax.evaluation.evaluators import open_evaluator
from bagpiper_jax.evaluation.evaluators.listening import Heard
from bagpiper_jax.outcomes import RecordError


def installed(name: str, path: str = "") -> Any:
    """The evaluator of that name; the test is skipped where it is not installed."""
    try:
        return open_evaluator(name, path)
    except MissingEvaluatorError as error:
        pytest.skip(str(error))


class Known:
    """`Tools` with these evaluators and no others."""

    def __init__(self, **evaluators: Any):
        self._evaluators = evaluators

    def evaluator(self, name: str) -> Any:
        if name not in self._evaluators:
            raise MissingEvaluatorError(f"{name} is not here")
        return self._evaluators[name]

    def judge(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        raise MissingEvaluatorError("no judge is named")


class Recogniser:
    """Hears what is written down for a file of that name."""

    name, version = "known", "0"

    def __init__(self, heard: Mapping[str, str]):
        self._heard = heard

    def transcribe(self, path: Path, language: str) -> str:
        return self._heard[path.stem]


class Voices:
    """Every prompt is one voice; a generated clip is as like it as is written down."""

    name, version = "known", "0"

    def __init__(self, likeness: Mapping[str, float]):
        self._likeness = likeness

    def voice(self, path: Path) -> np.ndarray:
        return np.array([self._likeness.get(path.stem, 1.0), 0.0])


class Listener:
    """Hears the embeddings and logits that are written down for a folder and a name."""

    version, labels = "0", ("one", "two", "three")

    def __init__(self, name: str, heard: Mapping[str, Heard]):
        self.name, self._heard = name, heard

    def hear(self, path: Path) -> Heard:
        return self._heard[f"{path.parent.name}/{path.stem}"]


def write_sound(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> Path:
    """A tone, whose channels differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    tones = [0.3 * np.sin(2 * np.pi * 220 * (1 + channel) * time) for channel in range(channels)]
    soundfile.write(path, np.stack(tones, 1), rate)
    return path


def judged(benchmark: Benchmark, replies: Mapping[str, Reply]) -> list[Judged]:
    """All items with their verdicts, as a run makes them: what cannot be judged has none."""
    found = []
    for item in benchmark.items():
        reply = replies.get(item.id, Reply(fault="missing_reply"))
        try:
            found.append(Judged(item, reply, {} if reply.fault else benchmark.verdicts(item, reply)))
        except RecordError:
            found.append(Judged(item, reply, {}))
    return found
