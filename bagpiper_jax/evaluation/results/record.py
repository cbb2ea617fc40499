"""`results.json` of a benchmark: what was tested with what, what failed and why, and every score."""

import collections
import dataclasses
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bagpiper_jax
from bagpiper_jax import files, typed
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Judged, Score
from bagpiper_jax.evaluation.running.predictions import plain

FILE = "results.json"
FORMAT = 1
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Tested:
    """The system under test: its name, what its replies depend on, and what a reader must know."""

    name: str
    identity: dict[str, Any]
    remarks: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Result:
    """All that one benchmark came to.

    Attributes:
        benchmark, version: which one.
        system: what was tested.
        files: where the benchmark's files lay.
        limit: the first so many items alone, None for all.
        command: the command that repeats it.
        expected: the number of items.
        faults: reason → items without a reply, or whose reply could not be judged.
        failed, unit: as the benchmark's own; honest scores in "%" are 100 times the mean of the verdicts.
        overlaps: training sources that share material with the benchmark.
        trained_on: tasks of the training that name one of those; None where nothing is known of the training.
        evaluators: name → name and version of the evaluator models that were asked for.
        judge: model and address of the judge, if one was asked.
        left_out: why there are no scores; "" if there are.
        official, honest: the scores under both protocols.
        date: when they were made, in UTC.
        format: of this file.
        package: version of bagpiper_jax.
    """

    benchmark: str
    version: str
    system: Tested
    files: str
    limit: int | None
    command: str
    expected: int
    faults: dict[str, int]
    failed: float | None
    unit: str
    overlaps: list[str]
    trained_on: list[str] | None
    evaluators: dict[str, dict[str, str]]
    judge: dict[str, str] | None
    left_out: str
    official: list[Score]
    honest: list[Score]
    date: str
    format: int = FORMAT
    package: str = bagpiper_jax.__version__


def faults(judged: Iterable[Judged]) -> dict[str, int]:
    """Reason → items, the most frequent first."""
    return dict(collections.Counter(each.fault for each in judged if each.fault).most_common())


def write(folder: Path, result: Result) -> None:
    """Writes the file, whole or not at all. Raises WriteError."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    fields["system"] = dataclasses.asdict(result.system)
    for name in ("official", "honest"):
        fields[name] = [plain(score) for score in fields[name]]
    files.replace(folder / FILE, json.dumps(fields, indent=1, ensure_ascii=False, default=str) + "\n")


def read(path: Path) -> Result:
    """A result. Raises BenchmarkError: the file is missing, or not one of ours."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.get("format") != FORMAT:
            raise ValueError(f"format {fields.get('format')!r}")
        return typed.from_json(Result, fields)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}; name a result folder") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BenchmarkError(
            f"{path} is no result of this version: {error}; run the benchmark again"
        ) from error


def read_all(output: Path) -> list[Result]:
    """The results of all benchmarks in an output, by name. Raises BenchmarkError: there is none, or one is damaged."""
    paths = sorted(output.glob(f"*/{FILE}"))
    if not paths:
        raise BenchmarkError(f"{output} holds no results; name an output of `bagpiper benchmark`")
    return [read(path) for path in paths]
