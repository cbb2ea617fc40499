"""Honest scores: every reading of the replies, every item counted, and how sure one can be.

An item without a verdict counts as `Benchmark.failed`; where that is None it is left out, and `scored` of `expected`
says of how many.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Judged, Score
from bagpiper_jax.evaluation.results.intervals import clustered, interval


def unit_of(benchmark: Benchmark) -> str:
    """In what honest scores are given; in "%" values are multiplied by 100."""
    return getattr(benchmark, "unit", "%" if benchmark.failed == 0 else "")


def scores(benchmark: Benchmark, judged: Sequence[Judged]) -> list[Score]:
    """The mean of every reading over all items and over every group, with its 95 % interval."""
    unit = unit_of(benchmark)
    groups = grouped(judged)
    return [
        _score(reading, group, members, benchmark.failed, unit)
        for reading in readings(judged)
        for group, members in groups.items()
    ]


def readings(judged: Iterable[Judged]) -> list[str]:
    """The names of all verdicts in the order of their first item."""
    return list(dict.fromkeys(name for each in judged for name in each.verdicts))


def grouped(judged: Sequence[Judged]) -> Mapping[tuple[str, str], Sequence[Judged]]:
    """(kind, name) → its items; ("", "") has all. Kinds stand together, in the order of their first item."""
    found: dict[tuple[str, str], list[Judged]] = {}
    for each in judged:
        for kind, name in each.item.groups.items():
            found.setdefault((kind, name), []).append(each)
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    return {("", ""): judged} | {group: found[group] for kind in kinds for group in found if group[0] == kind}


def value_of(judged: Judged, reading: str, failed: float | None) -> float | None:
    """What an item counts in honest scores; None where it is left out."""
    verdict = judged.verdicts.get(reading)
    value = None if verdict is None else verdict.value
    return failed if value is None or not math.isfinite(value) else float(value)


def _score(
    reading: str, group: tuple[str, str], judged: Sequence[Judged], failed: float | None, unit: str
) -> Score:
    found = [(value_of(each, reading, failed), each.item.cluster or each.item.id) for each in judged]
    counted = [(value, cluster) for value, cluster in found if value is not None]
    scored = sum(value_of(each, reading, None) is not None for each in judged)
    name, factor = ("accuracy", 100.0) if unit == "%" else ("mean", 1.0)
    if not counted:
        note = "no item has a verdict"
        return Score(name, None, unit, scored, len(judged), group, reading, note=note)
    sums = clustered(*zip(*counted, strict=True))
    bounds = interval(sums)
    return Score(
        name, factor * float(sums[:, 0].sum() / sums[:, 1].sum()), unit, scored, len(judged), group, reading,
        interval=None if bounds is None else (factor * bounds[0], factor * bounds[1]),
    )  # fmt: skip
