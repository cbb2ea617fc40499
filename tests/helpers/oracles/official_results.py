"""Golden files of benchmarks, a judge that answers by rule, and replies judged as a run judges them."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from places import TESTS

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Judged, Reply
from bagpiper_jax.outcomes import RecordError

BENCHMARKS = TESTS / "data" / "benchmarks"


@functools.cache
def golden(name: str) -> dict[str, Any]:
    """What official scripts returned and printed; each folder's SOURCE.txt says of what."""
    return json.loads((BENCHMARKS / name / "golden.json").read_text(encoding="utf-8"))


class NoTools:
    """`Tools` of a run without evaluators and without a judge."""

    def evaluator(self, name: str) -> Any:
        raise MissingEvaluatorError(f"there is no {name}")

    def judge(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        raise MissingEvaluatorError("no judge is named")


class RuleJudge(NoTools):
    """A judge whose lines come from a function of item and stage; None is a judge that gives no answer."""

    def __init__(self, line: Callable[[str, str], str | None]):
        self.line, self.asked = line, []

    def judge(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        self.asked.append((item, stage, messages))
        if (said := self.line(item, stage)) is None:
            raise RecordError("judge_silent", f"no answer to {item}")
        return said


def judged(benchmark: Benchmark, replies: Mapping[str, Reply]) -> list[Judged]:
    """All items with their verdicts, as a run makes them: missing replies are faults."""
    found = []
    for item in benchmark.items():
        reply = replies.get(item.id, Reply(fault="missing_reply"))
        found.append(Judged(item, reply, {} if reply.fault else benchmark.verdicts(item, reply)))
    return found


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON, or a line for each of a list's values where the name ends in .jsonl."""
    lines = (
        [json.dumps(each, ensure_ascii=False) + "\n" for each in value] if path.suffix == ".jsonl" else None
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(lines) if lines is not None else json.dumps(value, ensure_ascii=False), encoding="utf-8"
    )
    return path
