"""Evaluators in the place of Whisper and of a network of voices, which write each call down, and kill their process."""

import os
import signal
import threading
from pathlib import Path

import numpy as np

from bagpiper_jax.evaluation import evaluators

CALLS, DIE_AT = "COUNTING_EVALUATORS_CALLS", "COUNTING_EVALUATORS_DIE_AT"
"""Environment variables: the file that calls are written to, and "<method> <number>" of the call that is the last."""


class Counting:
    name, version = "counting", "1"

    def __init__(self, calls: Path):
        self.calls, self._lock = calls, threading.Lock()

    def transcribe(self, path: Path, language: str) -> str:
        self._write("transcribe", path)
        return "one two"

    def voice(self, path: Path) -> np.ndarray:
        self._write("voice", path)
        return np.array([0.6, 0.8], np.float32)

    def _write(self, method: str, path: Path) -> None:
        with self._lock:
            with open(self.calls, "a") as file:
                file.write(f"{method} {path.name}\n")
            number = sum(line.startswith(method) for line in self.calls.read_text().splitlines())
            if os.environ.get(DIE_AT) == f"{method} {number}":
                os.kill(os.getpid(), signal.SIGKILL)


if CALLS in os.environ:
    for name in ("whisper", "resemblyzer"):
        evaluators.register(name, lambda path: Counting(Path(os.environ[CALLS])))
