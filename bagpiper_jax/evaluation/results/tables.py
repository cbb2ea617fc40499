"""Scores as Markdown, for terminals, issues and papers."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results.record import Result


def number(value: float | None, unit: str = "") -> str:
    """A value with its unit; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2f} %" if unit == "%" else f"{value:.4g}{' ' if unit else ''}{unit}"


def bounds(score: Score) -> str:
    """The 95 % interval."""
    if score.interval is None:
        return "–"
    low, high = score.interval
    return f"{low:.1f} – {high:.1f}" if score.unit == "%" else f"{low:.4g} – {high:.4g}"


def group(score: Score) -> str:
    """What the score is of: "all", or kind and name of a group."""
    kind, name = score.group
    return f"{kind}: {name}" if kind else name or "all"


def label(score: Score) -> str:
    """Name and reading."""
    return f"{score.name} ({score.reading})" if score.reading else score.name


def remark(score: Score) -> str:
    """The note, and the controls that there are."""
    controls = {"baseline": score.baseline, "deaf": score.deaf, "ceiling": score.ceiling, "goal": score.goal}
    told = [f"{name} {number(value, score.unit)}" for name, value in controls.items() if value is not None]
    return "; ".join(filter(None, [score.note, ", ".join(told)]))


def notes(result: Result) -> Iterator[str]:
    """What one must know of a result, a sentence each."""
    if result.left_out:
        yield f"Left out: {result.left_out}"
    if result.limit is not None:
        yield f"The first {result.expected:,} items alone: this is no score of the whole benchmark."
    if result.faults:
        told = ", ".join(f"{count:,} {reason}" for reason, count in result.faults.items())
        yield f"Without a verdict: {told}, of {result.expected:,} items."
    yield from (f"{remark}." for remark in result.system.remarks)
    if result.trained_on:
        yield f"Trained on what overlaps with this benchmark: {', '.join(result.trained_on)}."
    elif result.trained_on is None and result.overlaps:
        yield f"What the system was trained on is not known; the benchmark overlaps with {', '.join(result.overlaps)}."
    for name, used in result.evaluators.items():
        yield f"Evaluator {name}: {used['name']}, {used['version'] or 'no version'}."
    if result.judge:
        yield f"Judge: {result.judge['model']} at {result.judge['url']}."


def markdown(results: Iterable[Result]) -> str:
    """Every score of every result, official beside honest."""
    return "\n".join(itertools.chain.from_iterable(_result(result) for result in results))


def _result(result: Result) -> Iterator[str]:
    yield f"## {result.benchmark} {result.version}: {result.system.name}\n"
    yield from (f"* {note}" for note in notes(result))
    yield ""
    for title, scores in (("Official", result.official), ("Honest", result.honest)):
        if scores:
            yield f"### {title}\n"
            yield from table(scores)
            yield ""
    if result.command:
        yield f"    {result.command}\n"


def table(scores: Sequence[Score]) -> Iterator[str]:
    """Rows for groups, as Markdown."""
    yield "| score | group | value | 95 % interval | scored / expected | note |"
    yield "|---|---|---|---|---|---|"
    for score in scores:
        cells = (
            label(score),
            group(score),
            number(score.value, score.unit),
            bounds(score),
            f"{score.scored:,} / {score.expected:,}",
            remark(score),
        )
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
