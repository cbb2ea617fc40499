"""A small annotated corpus, and encoder training jobs that are killed and continue."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bagpiper_jax.manifest import Clip, write_manifest

ANNOTATION = {"duration": 1.0, "sounds": [{"label": "bell", "start": 0.2, "end": 0.6, "level": "loud"}]}


def write_corpus(directory: Path, clips: int = 6, seconds: float = 1.0, annotated: bool = False) -> Path:
    """Clips of noise, the first for validation, all with the same annotation or without any."""
    soundfile = pytest.importorskip("soundfile")
    (directory / "audio").mkdir(parents=True)
    rows = []
    for index in range(clips):
        name = f"audio/{index}.wav"
        rng = np.random.default_rng(index)
        samples = rng.standard_normal(int(seconds * 16_000)) * rng.uniform(0.05, 0.5)
        soundfile.write(directory / name, samples, 16_000)
        split = "validation" if index == 0 else "train"
        annotation = ANNOTATION if annotated else None
        rows.append(Clip(id=f"clip{index}", split=split, domain="sound", audio=name, annotation=annotation))
    write_manifest(directory, rows)
    return directory


def whole_and_killed(
    name: str, config: str, settings: str, corpus: Path, directory: Path, result: str, steps: int = 8
) -> list[Path]:
    """Output of one run of a job, and of one that was killed on the way and continued; both to their end.

    Args:
        name: of the job, whose settings are `config`.
        settings: gin.
        result: the file that only a finished run has.
        steps: how many the killed run has logged by then.
    """
    (directory / "tiny.gin").write_text(settings)
    whole, killed = outputs = [directory / name for name in ("whole", "killed")]
    subprocess.run(job(name, config, directory / "tiny.gin", corpus, whole), check=True)
    again = job(name, config, directory / "tiny.gin", corpus, killed)
    process = subprocess.Popen(again)
    while len(metrics(killed, "train")) < steps:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / result).exists()
    subprocess.run(again, check=True)
    return outputs


def job(name: str, config: str, settings: Path, corpus: Path, output: Path) -> list[str]:
    """The command of a training job."""
    flags = [f"--gin_file={settings}", f"--gin.{config}.output={str(output)!r}"]
    flags += [f"--gin.{config}.corpora=({str(corpus)!r},)"]
    return [sys.executable, "-m", "bagpiper_jax", name, *flags]


def metrics(directory: Path, *kinds: str) -> list[dict]:
    """Whole lines of a run's metrics, of these kinds or of all."""
    path = directory / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [line for line in found if not kinds or line["kind"] in kinds]
