"""A toy benchmark, and runs of the suite on it."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from places import HELPERS, REPOSITORY

from bagpiper_jax import audio
from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Reply, Score, Verdict
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.evaluation.running.job import run
from bagpiper_jax.evaluation.systems.config import EndpointSystem, RecordedSystem
from bagpiper_jax.outcomes import RecordError

DIE_ONCE = "RUNNER_HELPERS_DIE_ONCE"
"""An environment variable: the file that the first verdict removes before it kills the process."""


@registry.register
class Toy:
    """Lines of `toy.jsonl`: id, question, answer, kind, and optionally clip and wants."""

    name, version, failed, overlaps = "toy", "1", 0.0, ("toy_train_v1", "AudioSet")

    def __init__(self, files, tools):
        self.files, self.tools = Path(files), tools

    def items(self):
        for line in (self.files / "toy.jsonl").read_text().splitlines():
            record = json.loads(line)
            clip = self.files / record["clip"] if "clip" in record else None
            asked = Asked(record["question"], clip, record.get("wants", "text"), 64, record.get("begun", ""))
            yield Item(record["id"], asked, record, {"kind": record["kind"]}, record.get("cluster", ""))

    def verdicts(self, item, reply):
        if (path := os.environ.get(DIE_ONCE)) and os.path.exists(path):
            os.unlink(path)
            os.kill(os.getpid(), signal.SIGKILL)
        if "judge" in item.record:
            said = self.tools.judge(item.id, "right", [{"role": "user", "content": reply.text}], 0.0, 8)
            return {"judged": Verdict(float(said == "yes"), said)}
        if "evaluator" in item.record:
            return {"heard": Verdict(self.tools.evaluator(item.record["evaluator"]).score(reply), "")}
        if reply.text == "unjudgeable":
            raise RecordError("prose", "no number in it")
        right = float(reply.text.rpartition("\n")[2] == item.record["answer"])
        return {"bare": Verdict(right, reply.text), "first": Verdict(right or None, reply.text[:1])}

    def official(self, judged):
        """Without those that have no verdict, as official scripts have it."""
        values = [each.verdicts["bare"].value for each in judged if "bare" in each.verdicts]
        mean = 100 * sum(values) / len(values) if values else None
        return [Score("accuracy", mean, "%", len(values), len(judged))]


def toy_files(folder: Path, count: int, **fields) -> Path:
    """A toy benchmark whose right answer to `question n` is `answer n`; two items a cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"id": f"i{n}", "question": f"question {n}", "answer": f"answer {n}"}
        | {"kind": f"k{n % 2}", "cluster": f"c{n // 2}"}
        | fields
        for n in range(count)
    ]
    return write_lines(folder / "toy.jsonl", lines).parent


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def replies(path: Path, count: int, wrong=(), missing=()) -> Path:
    """Recorded replies to a toy benchmark."""
    return write_lines(
        path,
        [
            {"id": f"i{n}", "reply": "wrong" if n in wrong else f"answer {n}"}
            for n in range(count)
            if n not in missing
        ],
    )


def quick(url: str, **settings) -> Endpoint:
    """An endpoint that is asked again at once."""
    given = dict(model="m", key_variable="", seconds=20.0, first_wait=0.01, longest_wait=0.1, concurrency=4)
    return Endpoint(**{"url": url, **given, **settings})


def run_toy(files: Path, output: Path, system, opens=None, **settings):
    """The result of a run, None of a shard's."""
    results = run(BenchmarkConfig({"toy": str(files)}, system, str(output), **settings), "again", opens)
    return results[0] if results else None


def recorded(path: Path) -> RecordedSystem:
    return RecordedSystem(str(path))


def asked_of(server, **settings) -> EndpointSystem:
    return EndpointSystem(quick(server.url, **settings))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tone(path: Path, seconds: float = 0.5, channels: int = 1, rate: int = 16_000) -> Path:
    """A clip of any rate and number of channels."""
    import soundfile

    time = np.arange(int(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 440 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([samples] * channels, axis=1).astype(np.float32), rate)
    return path


def wav_of(samples: np.ndarray) -> bytes:
    return audio.encode_wav(samples.astype(np.float32), audio.SAMPLE_RATE)


@contextlib.contextmanager
def job(arguments, environment=(), module="runner_helpers"):
    """The job in a process of its own."""
    command = [sys.executable, "-m", "bagpiper_jax", "benchmark", *map(str, arguments)]
    command.append(f"--gin.BenchmarkConfig.modules=('{module}',)")
    path = os.pathsep.join(map(str, (REPOSITORY, *(HELPERS / each for each in ("", "endpoints", "oracles")))))
    found = {**os.environ, "PYTHONPATH": path, "OPENAI_API_KEY": "", **dict(environment)}
    process = subprocess.Popen(
        command, env=found, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@dataclasses.dataclass
class FakeSystem:
    """Answers at once, and counts."""

    answers: dict
    name: str = "fake"
    identity: dict = dataclasses.field(default_factory=lambda: {"kind": "fake"})
    width: int = 4
    costs: bool = True
    remarks: list = dataclasses.field(default_factory=list)
    asked: list = dataclasses.field(default_factory=list)

    async def answer(self, item, asked, sound):
        self.asked.append(item)
        found = self.answers.get(item, Reply(fault="endpoint_timeout"))
        if found.audio is not None:
            sound.parent.mkdir(parents=True, exist_ok=True)
            sound.write_bytes(wav_of(np.zeros(1600)))
            return dataclasses.replace(found, audio=sound)
        return found
