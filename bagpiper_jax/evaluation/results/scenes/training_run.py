"""What a training run left behind, for the report: its metrics and its configuration."""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax.evaluation.benchmarks.protocol import Score

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: its name, its lines of `metrics.jsonl`, its `metrics.json` and `config.json`."""

    name: str
    history: tuple[dict, ...] = ()
    summary: Mapping = dataclasses.field(default_factory=dict)
    config: Mapping = dataclasses.field(default_factory=dict)


def read_run(name: str, directory: str | os.PathLike) -> Run:
    """What a run left in its output directory; what is missing stays empty.

    What cannot be read is left out with a warning: a run that was killed may leave a line cut short, and an evaluation
    that took hours must not be lost to it.
    """
    directory = Path(directory)
    history = _history(directory / "metrics.jsonl")
    return Run(name, history, _object(directory / "metrics.json"), _object(directory / "config.json"))


def _history(path: Path) -> tuple[dict, ...]:
    """Lines of numbers by step."""
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        _log.warning("%s is left out of the report: %s", path, error)
        return ()
    found = [_plain(line) for line in lines]
    whole = tuple(line for line in found if _has_step(line))
    if len(whole) < len(lines):
        _log.warning("%s: %d lines cannot be read and are left out", path, len(lines) - len(whole))
    return whole


def _object(path: Path) -> dict:
    try:
        found = _plain(path.read_bytes()) if path.exists() else {}
    except OSError:
        found = None
    if isinstance(found, dict):
        return found
    _log.warning("%s is no JSON object and is left out of the report", path)
    return {}


def _plain(text: bytes) -> Any:
    """A JSON value, None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _has_step(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("kind", "train"), str):
        return False
    return is_number(line.get("step")) and math.isfinite(line["step"])


def losses(runs: Iterable[Run]) -> list[Score]:
    """The runs' last validation losses under their names, beside the unigram model's."""
    note = "nats per frame on held-out rows; baseline: token frequencies of the training rows"
    found = []
    for run in runs:
        last = part_of(run.summary, "validation")
        loss, unigram = last.get("loss"), last.get("unigram_loss")
        if is_number(loss):
            baseline = unigram if is_number(unigram) else None
            found.append(
                Score(run.name, loss, "nats", 0, 0, note=note, baseline=baseline, higher_is_better=False)
            )
    return found


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float holds."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float)


def part_of(found: Any, *names: str) -> Mapping:
    """An object within an object, empty where there is none."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
