"""What benchmarks/claim found: means over all seeds, with intervals, and paired differences between arms."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from claim_runs import Run

from bagpiper_jax.evaluation.results.intervals import clustered, interval, paired

Scored = Sequence[tuple[Run, Mapping[str, Sequence[dict]]]]

GROUPS: Mapping[str, Callable[[dict], bool]] = {
    "asked in training": lambda record: record["seen"],
    "never asked": lambda record: not record["seen"],
}
"""Of questions, by their topic. What is not a question has one group, ""."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One question of docs/claim.md: does `second` do better than `first`?"""

    asks: str
    first: str
    second: str
    what: str = "questions"


def _nano(asks: str, first: str, second: str, what: str = "questions") -> Comparison:
    """Of two runs that began with the pretrained nano model."""
    return Comparison(asks, f"base_nano_{first}", f"base_nano_{second}", what)


_SOUND = "request_audio", "request_caption_audio"
COMPARISONS = (
    _nano("caption, then answer; equal tokens", "answer", "caption_answer"),
    _nano("caption, then answer; equal examples", "answer", "caption_answer_examples"),
    _nano("caption, then answer; four times the tokens", "answer_longer", "caption_answer_longer"),
    _nano("caption, then answer; few examples", "answer_few", "caption_answer_few"),
    _nano("reasoning as well; equal tokens", "caption_answer", "caption_reasoning_answer"),
    _nano("reasoning as well; longer", "caption_answer_longer", "caption_reasoning_answer_longer"),
    _nano("order: caption before the answer, not behind", "answer_caption", "caption_answer"),
    _nano("content: its own caption, not another's", "foreign_caption_answer", "caption_answer"),
    Comparison("size: small", "base_small_answer", "base_small_caption_answer"),
    Comparison("size: large", "base_large_answer", "base_large_caption_answer"),
    Comparison("captions, not labels, first", "base_labels_answer", "base_nano_answer"),
    Comparison("captions, not labels, first; few examples", "base_labels_answer_few", "base_nano_answer_few"),
    _nano("caption, then sound; equal tokens", *_SOUND, "requests"),
    _nano("caption, then sound; equal examples", _SOUND[0], f"{_SOUND[1]}_examples", "requests"),
    *(
        Comparison(f"unified, not single, {what}; {meaning}", f"single_{what}_{budget}", "unified", what)
        for what in ("captions", "sounds", "questions")
        for budget, meaning in (("whole", "equal compute of each model"), ("share", "of each task"))
    ),
)


def rows(scores: Scored) -> list[dict]:
    """A row per run and group, all seeds together: mean, interval, the means of each seed, and the controls."""
    found = []
    for name, what, records in _pooled(scores):
        for group, members in _groups(what, records).items():
            if not members:
                continue
            values = [float(record["right"]) for _, record in members]
            seeds = sorted({seed for seed, _ in members})
            found.append({
                "run": name, "scored": what, "group": group, "n": len(values), "mean": _mean(values),
                "interval": interval(clustered(values, [record["clip"] for _, record in members])),
                "seeds": {str(s): _mean([float(r["right"]) for seed, r in members if seed == s]) for s in seeds},
                "deaf": _control(members, "deaf"), "told": _control(members, "told"), "words": _words(members),
            })  # fmt: skip
    return found


def differences(scores: Scored) -> list[dict]:
    """Every comparison both of whose runs there are, over the same items and seeds; clusters are clips."""
    pooled = {(name, what): records for name, what, records in _pooled(scores)}
    found = []
    for comparison in COMPARISONS:
        first = pooled.get((comparison.first, comparison.what))
        second = pooled.get((comparison.second, comparison.what))
        if first is None or second is None:
            continue
        ours = _groups(comparison.what, second)
        for group, theirs in _groups(comparison.what, first).items():
            pairs = list(zip(theirs, ours[group], strict=True))
            if not pairs:
                continue
            change = [float(b["right"]) - float(a["right"]) for (_, a), (_, b) in pairs]
            found.append(
                dataclasses.asdict(comparison)
                | {"group": group, "n": len(change)}
                | dataclasses.asdict(paired(change, [a["clip"] for (_, a), _ in pairs]))
            )
    return found


def _pooled(scores: Scored) -> Iterable[tuple[str, str, list[tuple[int, dict]]]]:
    """Name of runs, what they are scored on, and their records with the seed of each."""
    found: dict[tuple[str, str], list] = {}
    for run, parts in sorted(scores, key=lambda pair: pair[0].seed):
        for what, records in parts.items():
            found.setdefault((run.name, what), []).extend((run.seed, record) for record in records)
    return [(*key, records) for key, records in found.items()]


def _groups(what: str, records: Sequence[tuple[int, dict]]) -> dict[str, list[tuple[int, dict]]]:
    if what != "questions":
        return {"": list(records)}
    return {name: [pair for pair in records if holds(pair[1])] for name, holds in GROUPS.items()}


def _control(members: Sequence[tuple[int, dict]], name: str) -> float | None:
    values = [record[name] for _, record in members if record.get(name) is not None]
    return _mean(values) if values else None


def _words(members: Sequence[tuple[int, dict]]) -> float | None:
    total = sum(record.get("words", 0) for _, record in members)
    return sum(record["words_right"] for _, record in members) / total if total else None


def _mean(values: Sequence[float]) -> float:
    return sum(map(float, values)) / len(values)


def table(found: Mapping) -> str:
    """Both lists as Markdown."""
    lines = [
        "| run | scored on | n | right | 95 % | deaf | told the true caption | words |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        what = f"{row['scored']}, {row['group']}" if row["group"] else row["scored"]
        cells = [row["run"], what, str(row["n"]), _percent(row["mean"]), _bounds(row["interval"])]
        cells += [_percent(row[name]) for name in ("deaf", "told", "words")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| does it help? | questions | points | 95 % | p |", "|---|---|---|---|---|"]
    for row in found["differences"]:
        cells = [row["asks"], row["group"] or "–", f"{100 * row['mean']:+.1f}", _bounds(row["interval"], "+")]
        cells.append(f"{row['p']:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _bounds(bounds: Sequence[float] | None, sign: str = "") -> str:
    return "–" if bounds is None else " to ".join(f"{100 * bound:{sign}.1f}" for bound in bounds)
