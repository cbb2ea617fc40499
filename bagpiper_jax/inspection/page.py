"""Everything that inspection finds, as one self-contained HTML page."""

import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.evaluation.page import write_page
from bagpiper_jax.inspection import articles, text
from bagpiper_jax.inspection.articles import example_article, legend, row_map, table, tiles
from bagpiper_jax.inspection.comparison import Difference, TaskDifference
from bagpiper_jax.inspection.finding import Fate, Origin
from bagpiper_jax.inspection.shown import Shown, ShownRow
from bagpiper_jax.inspection.sound import Decode
from bagpiper_jax.inspection.survey import QUANTILES, Survey
from bagpiper_jax.inspection.validation import Validation
from bagpiper_jax.vocabulary import Vocabulary

_STYLE = Path(__file__).with_name("page.css")
_MOST_IDS = 200


def write(path: str | os.PathLike, title: str, facts: str, body: Sequence[str]) -> Path:
    """Writes a page of parts made below; returns its path."""
    head = f"<header><h1>{escape(title)}</h1><ul><li>{escape(facts)}</li></ul></header>"
    return write_page(path, title, [head, *body], _STYLE)


def row_parts(row: ShownRow, vocabulary: Vocabulary, decode: Decode | None) -> list[str]:
    """A row: how full it is, its map, its examples."""
    used, slots = row.slots
    chunks, most = row.chunks
    targets = sum(example.targets for example in row.examples)
    numbers = tiles([
        (f"{used / slots:.1%}", f"{used:,} of {slots:,} slots in use", True),
        (str(len(row.examples)), "examples", True),
        (f"{targets:,}", "slots with loss", True),
        (f"{chunks}", f"of {most} audio chunks, {row.clips} clips heard", True),
        *([(str(faults), "damaged", False)] if (faults := sum(bool(e.fault) for e in row.examples)) else []),
    ])  # fmt: skip
    examples = [example_article(e, n, vocabulary, decode) for n, e in enumerate(row.examples)]
    return [
        numbers,
        f"<section><h2>The row</h2>{row_map(row, vocabulary)}{legend()}</section>",
        f"<section><h2>Its examples</h2>{''.join(examples)}</section>",
    ]


def example_parts(examples: Sequence[Shown], vocabulary: Vocabulary, decode: Decode | None) -> list[str]:
    """Examples on their own."""
    made = [example_article(e, n, vocabulary, decode) for n, e in enumerate(examples)]
    return [f"<section>{''.join(made)}{legend()}</section>"]


def absence_parts(fates: Sequence[Fate]) -> list[str]:
    """Tasks in which a clip has no example."""
    return [f'<p class="fault">{escape(text.describe_absence(fate))}</p>' for fate in fates]


def origin_parts(found: Origin | None) -> list[str]:
    """A clip as its corpus has it, with its sound."""
    if found is None:
        return []
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in text.origin_facts(found)
    )
    heard = articles.sound(found.audio) if found.audio else ""
    place = escape(str(found.corpus))
    return [
        f'<section><h2>In {place}</h2><article>{heard}<dl class="origin">{facts}</dl></article></section>'
    ]


def reject_parts(names: Sequence[str], caches: Sequence[TaskCache], limit: int) -> list[str]:
    """Counts of every task by outcome, and rejects of each reason."""
    parts = []
    for name, cache in zip(names, caches, strict=True):
        counts = table(["outcome", "clips"], [(k, f"{n:,}") for k, n in cache.manifest["counts"].items()])
        rejects = text.some_rejects(cache, limit)
        rows = [(reject["id"] or "(no id)", reject["reason"], _why(reject)) for reject in rejects]
        listed = (
            table(["clip", "reason", "detail"], rows, "words") if rows else "<p>No clip was rejected.</p>"
        )
        parts.append(f"<section><h2>{escape(name)}</h2>{counts}{listed}</section>")
    return parts


def _why(reject: dict) -> str:
    """The detail of a reject without the reason that it repeats."""
    return reject["detail"].removeprefix("rejected ").replace(f"{reject['reason']}: ", "")


def survey_parts(found: Survey) -> list[str]:
    """What a run will see of a mixture."""
    numbers = tiles([
        (f"{found.packing:.2%}", "of slots hold examples", True),
        (f"{found.chunk_packing:.1%}", "of audio chunks in use", True),
        (f"{found.examples_per_row[0]:.1f}", f"examples a row, at most {found.examples_per_row[1]}", True),
        (_compact(found.run_tokens), f"tokens in {found.steps:,} steps", True),
    ])  # fmt: skip
    heads = ["task", "records", "rate", "examples", "tokens", "epochs", "over-long", "rejected"]
    heads.append(f"slots at {', '.join(f'{q:.0%}' for q in QUANTILES)}")
    rows = [
        [
            t.name, f"{t.records:,}", f"{t.rate:.1%}", f"{t.examples:.1%}", f"{t.tokens:.1%}", f"{t.epochs:.2f}",
            f"{t.over_long:.2%}", f"{t.reject_share:.2%}", " · ".join(f"{n:,}" for n in t.slots),
        ]
        for t in found.tasks
    ]  # fmt: skip
    directions = [(name.replace("_", " "), f"{share:.1%}") for name, share in found.directions.items()]
    return [
        numbers,
        f"<section><h2>Tasks</h2>{table(heads, rows)}</section>",
        f"<section><h2>Slots by direction</h2>{table(['direction', 'share'], directions)}</section>",
    ]


def _compact(number: float) -> str:
    """Three digits and a unit: 2.41 M."""
    exponent = min(4, int(math.log10(max(1.0, number)) // 3))
    return f"{number / 1000**exponent:.3g}{['', ' k', ' M', ' B', ' T'][exponent]}"


def validation_parts(found: Validation, vocabulary: Vocabulary | None) -> list[str]:
    """Violations first, then the survey, then the decoded rows."""
    items = "".join(
        f"<li><b>{escape(v.rule)}</b> {escape(v.place)}: {escape(v.found)}. <em>{escape(v.remedy)}.</em></li>"
        for v in found.violations
    )
    breached = f'<h2 class="fault">{text.count_violations(found)}</h2><ol class="violations">{items}</ol>'
    valid = '<h2 class="sound">Valid: no limit is violated</h2>'
    verdict = f"<section>{breached if items else valid}</section>"
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    parts = [verdict, *(survey_parts(found.survey) if found.survey else [])]
    if notes:
        parts.append(f"<details><summary>Notes ({len(found.notes)})</summary><ul>{notes}</ul></details>")
    if found.rows and vocabulary:
        rows = "".join(_decoded(row, number, vocabulary) for number, row in enumerate(found.rows))
        parts.append(f"<section><h2>{len(found.rows)} decoded rows</h2>{legend()}{rows}</section>")
    return parts


def _decoded(row: ShownRow, number: int, vocabulary: Vocabulary) -> str:
    said = "".join(
        f'<div id="r{number}e{place}"><small>{escape(e.task)} · {escape(e.id)}</small>{_quote(e)}</div>'
        for place, e in enumerate(row.examples)
    )
    return (
        f"<article><h3>{escape(row.title)} <small>{escape(text.row_facts(row))}</small></h3>"
        f"{row_map(row, vocabulary, anchor=f'r{number}e')}"
        f"<details><summary>What it says</summary>{said}</details></article>"
    )


def _quote(example: Shown) -> str:
    return f"<pre>{escape(text.describe_example(example))}</pre>"


def difference_parts(found: Difference) -> list[str]:
    """Two caches side by side."""
    verdict = '<h2 class="sound">Equal</h2>' if found.is_equal else '<h2 class="fault">The caches differ</h2>'
    settings = "".join(f"<li>{escape(line)}</li>" for line in found.settings)
    heads = ["task", "first", "second", "same", "changed", "removed", "added", "damaged"]
    rows = [
        [
            t.task,
            *(f"{n:,}" for n in (*t.records, t.same, *map(len, (t.changed, t.removed, t.added, t.damaged)))),
        ]
        for t in found.tasks
    ]
    return [
        f"<section>{verdict}<ul>{settings}</ul>{articles.table(heads, rows)}</section>",
        *(_task_difference(task) for task in found.tasks if not task.is_equal),
    ]


def _task_difference(task: TaskDifference) -> str:
    changed = [f"{c.id}: {', '.join(c.parts)} (record {c.first} → {c.second})" for c in task.changed]
    groups = (
        ("made from", task.made_from), ("changed", changed), ("removed", task.removed), ("added", task.added),
        ("damaged", task.damaged),
    )  # fmt: skip
    lists = "".join(_list(name, lines) for name, lines in groups if lines)
    return f"<section><h2>{escape(task.task)}</h2>{lists}</section>"


def _list(name: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:_MOST_IDS])
    more = f"<li>… and {len(lines) - _MOST_IDS} more</li>" if len(lines) > _MOST_IDS else ""
    return f"<details open><summary>{escape(name)} ({len(lines)})</summary><ul>{items}{more}</ul></details>"
