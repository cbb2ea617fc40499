"""Runs benchmarks on a system, and writes every table.

All replies are made first, so that the model's memory is free when evaluators come; each is on the disk before the next
is waited for. Then each benchmark is judged, scored and written; what evaluators said of files, and judges of replies,
is kept as well. Killed at any moment, the same command goes on.
"""

import asyncio
import collections
import dataclasses
import datetime
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bagpiper_jax import files, task_modules
from bagpiper_jax.evaluation import outputs
from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Item, Judged, Reply, Score, Tools
from bagpiper_jax.evaluation.results import contamination, honest, record, report
from bagpiper_jax.evaluation.running import predictions
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.evaluation.running.inference import replies
from bagpiper_jax.evaluation.running.judging import judge_all, unjudged
from bagpiper_jax.evaluation.running.tools import Evaluators, Judge, Toolbox, judging
from bagpiper_jax.evaluation.systems.opening import opened
from bagpiper_jax.runs.progress import Underway

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Test:
    """A benchmark on its way."""

    benchmark: Benchmark
    tools: Toolbox
    files: str
    items: Sequence[Item]
    folder: Path
    tested: record.Tested | None = None
    replies: Sequence[Reply] = ()

    @property
    def name(self) -> str:
        return self.benchmark.name


def run(
    config: BenchmarkConfig,
    command: str = "",
    opens: Callable[[str, str], Any] | None = None,
    make: Callable[[str, str, Tools], Benchmark] = registry.open_benchmark,
) -> list[record.Result]:
    """Asks, judges, scores, and writes for each benchmark `<output>/<name>/predictions.jsonl` and `results.json`, then
    `results.md` and `report.html` of all that the output holds.

    Args:
        command: the command line that repeats it, for the tables.
        opens: makes evaluators of names and paths; None takes ours.
        make: makes benchmarks of names, files and tools.

    Returns:
        the results; none of a shard, whose replies are kept for the command that scores them all.

    Raises:
        BenchmarkError: the files of a benchmark are not what they should be, or the output cannot be written.
        EndpointError, JournalError, Explained: the system or the judge cannot be asked; the same command goes on.
    """
    output = outputs.make(config.output, "BenchmarkConfig.output", BenchmarkError)
    task_modules.load_task_modules(config.modules)
    evaluators = Evaluators(config.evaluators, opens)
    tests = [_opened(config, name, place, evaluators, make) for name, place in config.benchmarks.items()]
    with judging(config.judge, output / f"judge{config.part}.jsonl") as judge:
        asyncio.run(_ask(config, tests, output))
        if config.num_shards > 1:
            return []
        with evaluators.keeping(output / "evaluators.jsonl"):
            results = [_scored(config, test, judge, command) for test in tests]
    with Underway("writing the report"):
        report.write(output)
    return results


def _opened(config: BenchmarkConfig, name: str, place: str, evaluators: Evaluators, make: Callable) -> _Test:
    """Raises BenchmarkError: what is wrong with files is said before anything is asked."""
    tools = Toolbox(name, evaluators)
    benchmark = make(name, place, tools)
    items = list(benchmark.items())[: config.limit]
    ids = collections.Counter(item.id for item in items)
    if twice := next((id for id, count in ids.items() if count > 1), None):
        raise BenchmarkError(f"{name}: the id {twice!r} stands twice in {place}; give every item its own")
    folder = Path(config.output) / name
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(folder)
    return _Test(benchmark, tools, place, items[config.shard :: config.num_shards], folder)


async def _ask(config: BenchmarkConfig, tests: Sequence[_Test], output: Path) -> None:
    async with opened(config.system, output, config.part) as systems:
        for test in tests:
            system = systems(test.benchmark)
            # Nothing else of the system outlives the asking: its memory is free when evaluators come.
            test.tested = record.Tested(system.name, dict(system.identity), list(system.remarks))
            test.replies = await replies(system, test.benchmark, test.items, test.folder, config.part)


def _scored(config: BenchmarkConfig, test: _Test, judge: Judge | None, command: str) -> record.Result:
    """Judges and scores a benchmark, and writes its files."""
    benchmark, tools = test.benchmark, test.tools
    tools.judge_of_run = judge
    judged: Sequence[Judged] = [
        unjudged(item, reply) for item, reply in zip(test.items, test.replies, strict=True)
    ]
    official: list[Score] = []
    left_out = ""
    try:
        threads = None if config.judge is None else config.judge.concurrency
        judged = judge_all(benchmark, test.items, test.replies, threads)
        official = list(benchmark.official(judged))
    except MissingEvaluatorError as error:
        left_out = str(error)
        _log.warning("%s is left out: %s", test.name, error)
    predictions.write(test.folder, judged)
    result = record.Result(
        benchmark=test.name,
        version=benchmark.version,
        system=test.tested,
        files=test.files,
        limit=config.limit,
        command=command,
        expected=len(judged),
        faults=record.faults(judged),
        failed=benchmark.failed,
        unit=honest.unit_of(benchmark),
        overlaps=list(benchmark.overlaps),
        trained_on=contamination.found(
            benchmark.overlaps, contamination.sources(config.system, config.locks)
        ),
        evaluators=dict(tools.used),
        judge={"model": config.judge.model, "url": config.judge.url} if tools.judged else None,
        left_out=left_out,
        official=official,
        honest=honest.scores(benchmark, judged),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    record.write(test.folder, result)
    return result
