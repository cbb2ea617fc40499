"""Everything that inspection finds, as one self-contained HTML page."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.inspection import text
from bagpiper_jax.inspection.articles import LEGEND, article, recording_of, row_map
from bagpiper_jax.inspection.clip_history import Fate, Origin
from bagpiper_jax.inspection.comparison import Difference, TaskDifference
from bagpiper_jax.inspection.examples import Shown, ShownRow
from bagpiper_jax.inspection.sound import Decode
from bagpiper_jax.inspection.survey import QUANTILES, Survey
from bagpiper_jax.inspection.validation import Validation
from bagpiper_jax.pages.rendering import write_page
from bagpiper_jax.vocabulary import Vocabulary

_MOST_IDS = 200


@dataclasses.dataclass(frozen=True)
class Page:
    """A template of `pages/templates/inspection` and what it shows."""

    template: str
    content: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of plain text, whose first column names the rows; kind "words" aligns all columns to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = ""


def write(path: str | os.PathLike, title: str, facts: str, page: Page) -> Path:
    """Writes a page; returns its path."""
    content = {"title": title, "facts": facts, "legend": LEGEND, **page.content}
    return write_page(path, f"inspection/{page.template}.html.j2", **content)


def row_page(row: ShownRow, vocabulary: Vocabulary, decode: Decode | None) -> Page:
    """A row: how full it is, its map, its examples."""
    used, slots = row.slots
    chunks, most = row.chunks
    targets = sum(example.targets for example in row.examples)
    tiles = [
        (f"{used / slots:.1%}", f"{used:,} of {slots:,} slots in use", "good"),
        (str(len(row.examples)), "examples", "good"),
        (f"{targets:,}", "slots with loss", "good"),
        (f"{chunks}", f"of {most} audio chunks, {row.clips} clips heard", "good"),
    ]
    if faults := sum(bool(e.fault) for e in row.examples):
        tiles.append((str(faults), "damaged", ""))
    articles = _articles(row.examples, vocabulary, decode)
    return Page("row", {"tiles": tiles, "map": row_map(row, vocabulary), "articles": articles})


def example_page(
    examples: Sequence[Shown],
    vocabulary: Vocabulary,
    decode: Decode | None,
    absent: Sequence[Fate] = (),
    origin: Origin | None = None,
) -> Page:
    """Examples on their own, tasks in which a clip has none, and the clip as its corpus has it, with its sound."""
    return Page(
        "examples",
        {
            "absences": [text.describe_absence(fate) for fate in absent],
            "articles": _articles(examples, vocabulary, decode),
            "origin": _origin(origin) if origin else None,
        },
    )


def _articles(examples: Sequence[Shown], vocabulary: Vocabulary, decode: Decode | None) -> list:
    return [article(example, number, vocabulary, decode) for number, example in enumerate(examples)]


def _origin(found: Origin) -> dict:
    heard = recording_of(found.audio) if found.audio else None
    is_fault = isinstance(heard, str)
    return {
        "corpus": str(found.corpus),
        "facts": text.origin_facts(found),
        "recording": None if is_fault else heard,
        "fault": heard if is_fault else "",
    }


def reject_page(names: Sequence[str], caches: Sequence[TaskCache], limit: int) -> Page:
    """Counts of every task by outcome, and rejects of each reason."""
    tasks = [
        (name, _counts(cache), _rejects(cache, limit)) for name, cache in zip(names, caches, strict=True)
    ]
    return Page("rejects", {"tasks": tasks})


def _counts(cache: TaskCache) -> Table:
    counts = cache.manifest["counts"]
    return Table(["outcome", "clips"], [(outcome, f"{n:,}") for outcome, n in counts.items()])


def _rejects(cache: TaskCache, limit: int) -> Table:
    rejects = text.some_rejects(cache, limit)
    rows = [(reject["id"] or "(no id)", reject["reason"], reject["detail"]) for reject in rejects]
    return Table(["clip", "reason", "detail"], rows, "words")


def survey_page(found: Survey) -> Page:
    """What a run will see of a mixture."""
    return Page("survey", {"survey": _survey(found)})


def _survey(found: Survey) -> dict:
    tiles = [
        (f"{found.packing:.2%}", "of slots hold examples", "good"),
        (f"{found.chunk_packing:.1%}", "of audio chunks in use", "good"),
        (f"{found.examples_per_row[0]:.1f}", f"examples a row, at most {found.examples_per_row[1]}", "good"),
        (_compact(found.run_tokens), f"tokens in {found.steps:,} steps", "good"),
    ]
    head = ["task", "records", "rate", "examples", "tokens", "epochs", "over-long", "rejected"]
    head.append(f"slots at {', '.join(f'{q:.0%}' for q in QUANTILES)}")
    rows = [
        [
            t.name, f"{t.records:,}", f"{t.rate:.1%}", f"{t.examples:.1%}", f"{t.tokens:.1%}", f"{t.epochs:.2f}",
            f"{t.over_long:.2%}", f"{t.reject_share:.2%}", " · ".join(f"{n:,}" for n in t.slots),
        ]
        for t in found.tasks
    ]  # fmt: skip
    directions = [(name.replace("_", " "), f"{share:.1%}") for name, share in found.directions.items()]
    return {
        "tiles": tiles,
        "tasks": Table(head, rows),
        "directions": Table(["direction", "share"], directions),
    }


def _compact(number: float) -> str:
    """Three digits and a unit: 2.41 M."""
    exponent = min(4, int(math.log10(max(1.0, number)) // 3))
    return f"{number / 1000**exponent:.3g}{['', ' k', ' M', ' B', ' T'][exponent]}"


def validation_page(found: Validation, vocabulary: Vocabulary | None) -> Page:
    """Violations first, then the survey, then the decoded rows."""
    rows = found.rows if vocabulary else ()
    return Page(
        "validation",
        {
            "verdict": text.count_violations(found),
            "violations": found.violations,
            "survey": _survey(found.survey) if found.survey else None,
            "notes": (*map(text.describe_judged, found.judged), *found.notes),
            "rows": [_decoded(row, number, vocabulary) for number, row in enumerate(rows)],
        },
    )


def _decoded(row: ShownRow, number: int, vocabulary: Vocabulary) -> dict:
    return {
        "title": row.title,
        "facts": text.row_facts(row),
        "map": row_map(row, vocabulary, anchor=f"r{number}e"),
        "said": [(example, text.describe_example(example)) for example in row.examples],
    }


def difference_page(found: Difference) -> Page:
    """Two caches side by side."""
    head = ["task", "first", "second", "same", "changed", "removed", "added", "damaged"]
    rows = [
        [
            t.task,
            *(f"{n:,}" for n in (*t.records, t.same, *map(len, (t.changed, t.removed, t.added, t.damaged)))),
        ]
        for t in found.tasks
    ]
    different = [(task.task, _lists(task)) for task in found.tasks if not task.is_equal]
    content = {"is_equal": found.is_equal, "settings": found.settings, "different": different}
    return Page("difference", {**content, "table": Table(head, rows), "most": _MOST_IDS})


def _lists(task: TaskDifference) -> dict[str, Sequence[str]]:
    """What differs in a task, by kind; kinds of which there is nothing are left out."""
    changed = [f"{c.id}: {', '.join(c.parts)} (record {c.first} → {c.second})" for c in task.changed]
    kinds = {
        "made from": task.made_from, "changed": changed, "removed": task.removed, "added": task.added,
        "damaged": task.damaged,
    }  # fmt: skip
    return {kind: lines for kind, lines in kinds.items() if lines}
