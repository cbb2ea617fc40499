"""`results.md` and `report.html` of an output: every score of every benchmark in it, and some of the replies."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results import record, tables
from bagpiper_jax.evaluation.running import predictions
from bagpiper_jax.pages.rendering import write_page

MARKDOWN, PAGE = "results.md", "report.html"
_SHOWN = 6
"""Replies on the page, of each benchmark."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Row:
    """A score as the page prints it; `share` is the length of its bar in percent, None where it has none."""

    name: str
    group: str
    value: str
    bounds: str
    counts: str
    note: str
    share: float | None


def write(output: Path) -> Path:
    """Writes both files and returns the page's path.

    Raises:
        BenchmarkError: the output holds no results.
        WriteError, PageError: the disk refuses.
    """
    results = record.read_all(output)
    files.replace(output / MARKDOWN, tables.markdown(results))
    names = dict.fromkeys(result.system.name for result in results)
    return write_page(
        output / PAGE,
        "benchmarks.html.j2",
        title=f"Benchmarks: {', '.join(names)}",
        results=[_section(result, output / result.benchmark) for result in results],
    )


def _section(result: record.Result, folder: Path) -> dict:
    return {
        "name": result.benchmark,
        "version": result.version,
        "system": result.system.name,
        "notes": list(tables.notes(result)),
        "headline": _headline(result),
        "tables": {
            title: [row(score) for score in scores]
            for title, scores in (("Official", result.official), ("Honest", result.honest))
            if scores
        },
        "samples": list(itertools.islice(_samples(folder, result.unit == "%"), _SHOWN)),
        "command": result.command,
        "date": result.date[:10],
    }


def _headline(result: record.Result) -> str:
    """The first score of all items, official before honest."""
    scores = [score for score in (*result.official, *result.honest) if score.group == ("", "")]
    best = next((score for score in scores if score.value is not None), None)
    return "" if best is None else f"{tables.number(best.value, best.unit)} {tables.label(best)}"


def row(score: Score) -> Row:
    """A score as the page prints it."""
    return Row(
        tables.label(score),
        tables.group(score),
        tables.number(score.value, score.unit),
        tables.bounds(score),
        f"{score.scored:,} / {score.expected:,}",
        tables.remark(score),
        min(max(score.value, 0.0), 100.0) if score.unit == "%" and score.value is not None else None,
    )


def _samples(folder: Path, tells_right: bool) -> Iterator[Mapping]:
    """Replies that failed, or that a reading judged wrong, in the order of the items.

    Args:
        tells_right: whether a value of 0 is wrong; of an error rate it is the best.
    """
    try:
        for line in predictions.read(folder):
            verdicts = line["verdicts"]
            values = [verdict["value"] for verdict in verdicts.values()]
            wrong = None in values or (tells_right and 0 in values)
            if wrong or line["fault"]:
                yield {
                    "id": line["id"],
                    "asked": line["asked"]["text"],
                    "reply": line["reply"]["text"],
                    "fault": f"{line['fault']}: {line['detail']}" if line["fault"] else "",
                    "verdicts": [
                        (name, _judged(verdict), bool(verdict["value"]) if tells_right else None)
                        for name, verdict in verdicts.items()
                    ],
                }
    except BenchmarkError as error:  # the scores are whole without it
        _log.warning("the page shows no replies: %s", error)


def _judged(verdict: Mapping) -> str:
    said = verdict["answer"] or "(nothing extracted)"
    return f"{said} – {verdict['reason']}" if verdict["reason"] else said
