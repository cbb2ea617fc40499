"""The leaderboard: systems side by side, published rows with their source, and the command that repeats ours."""

import dataclasses
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bagpiper_jax import typed
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results import record, tables
from bagpiper_jax.pages.rendering import write_page


@dataclasses.dataclass(frozen=True)
class Published:
    """A number that somebody published.

    Attributes:
        benchmark: its name here.
        system, metric: as the source calls them.
        value, unit: the number.
        source: where it stands.
    """

    benchmark: str
    system: str
    metric: str
    value: float
    unit: str
    source: str


@dataclasses.dataclass(frozen=True)
class LeaderboardConfig:
    """What the page lists.

    Attributes:
        outputs: outputs of `bagpiper benchmark`.
        page: the HTML file.
        published: whether published rows stand beside them.
    """

    outputs: tuple[str, ...]
    page: str = "runs/leaderboard.html"
    published: bool = True


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        system, metric, value, bounds, counts: as printed.
        source: of a published number; else notes on ours.
        command: the command that repeats it; "" for a published number.
        is_published: whether others measured it.
    """

    system: str
    metric: str
    value: str
    bounds: str
    counts: str
    source: str
    command: str
    is_published: bool


def published() -> list[Published]:
    """All published rows that the package knows."""
    text = (importlib.resources.files(__package__) / "published.json").read_text(encoding="utf-8")
    return [typed.from_json(Published, row) for row in json.loads(text)]


def write(config: LeaderboardConfig) -> Path:
    """Writes the page. Raises BenchmarkError: an output holds no results; PageError."""
    results = [result for output in config.outputs for result in record.read_all(Path(output))]
    return write_page(
        config.page,
        "leaderboard.html.j2",
        title="Leaderboard",
        tables=rows(results, published() if config.published else ()),
    )


def rows(results: Sequence[record.Result], others: Sequence[Published]) -> dict[str, list[Row]]:
    """Benchmark → its rows: ours of all items, official before honest, then what was published."""
    found: dict[str, list[Row]] = {}
    for result in results:
        title = f"{result.benchmark} {result.version}"
        found.setdefault(title, []).extend(_ours(result))
    titles = {result.benchmark: f"{result.benchmark} {result.version}" for result in results}
    for other in others:
        if not results or other.benchmark in titles:
            found.setdefault(titles.get(other.benchmark, other.benchmark), []).append(_theirs(other))
    return found


def _ours(result: record.Result) -> Iterator[Row]:
    notes = " ".join(tables.notes(result))
    for protocol, scores in (("official", result.official), ("honest", result.honest)):
        for score in _of_all(scores):
            yield Row(
                result.system.name, f"{protocol}: {tables.label(score)}", tables.number(score.value, score.unit),
                tables.bounds(score), f"{score.scored:,} / {score.expected:,}",
                " ".join(filter(None, (score.note, notes))), result.command, False,
            )  # fmt: skip
    if result.left_out:
        yield Row(result.system.name, "left out", "–", "–", "–", notes, result.command, False)


def _of_all(scores: Iterable[Score]) -> Iterator[Score]:
    return (score for score in scores if score.group == ("", ""))


def _theirs(other: Published) -> Row:
    value = tables.number(other.value, other.unit)
    return Row(other.system, other.metric, value, "–", "–", other.source, "", True)
