"""Two systems on the same items: is one better than the other, or is it chance."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.results import record
from bagpiper_jax.evaluation.results.intervals import Difference, paired
from bagpiper_jax.evaluation.results.tables import number
from bagpiper_jax.evaluation.running import predictions

METHOD = (
    "Differences are second less first, of the items that both have, failures counted as the benchmark counts them. "
    "p: two-sided sign-flip test over clusters of items; interval: 95 %, paired bootstrap over the same clusters."
)


@dataclasses.dataclass(frozen=True)
class Compared:
    """One reading of one benchmark, of two systems.

    Attributes:
        benchmark, reading, unit: what is compared.
        first, second: the names of the systems.
        means: of both, in the unit.
        items: the number of items that both have a value for.
        left_out: items that only one has, or that have no value in one.
        difference: in the unit.
    """

    benchmark: str
    reading: str
    unit: str
    first: str
    second: str
    means: tuple[float, float]
    items: int
    left_out: int
    difference: Difference


def compare(first: Path, second: Path) -> list[Compared]:
    """Every reading of every benchmark that two outputs have in common.

    Raises BenchmarkError: a folder holds no results, they have none in common, or their versions differ.
    """
    found, other = ({each.benchmark: each for each in record.read_all(folder)} for folder in (first, second))
    names = [name for name in found if name in other]
    if not names:
        raise BenchmarkError(
            f"{first} has {', '.join(found)} and {second} has {', '.join(other)}; run one benchmark on both systems"
        )
    compared: list[Compared] = []
    for name in names:
        if found[name].version != other[name].version:
            raise BenchmarkError(
                f"{name} is {found[name].version} in {first} and {other[name].version} in {second}; run one again"
            )
        compared += _readings(found[name], other[name], first / name, second / name)
    return compared


def _readings(a: record.Result, b: record.Result, first: Path, second: Path) -> Iterator[Compared]:
    lines, others = ({line["id"]: line for line in predictions.read(folder)} for folder in (first, second))
    every = [*lines.values(), *others.values()]
    for reading in dict.fromkeys(name for line in every for name in line["verdicts"]):
        pairs, clusters = [], []
        for id in (id for id in lines if id in others):
            pair = _value(lines[id], reading, a.failed), _value(others[id], reading, b.failed)
            if None not in pair:
                pairs.append(pair)
                clusters.append(lines[id]["cluster"])
        if not pairs:
            continue
        factor = 100.0 if a.unit == "%" else 1.0
        one, two = ([factor * pair[side] for pair in pairs] for side in (0, 1))
        difference = paired([y - x for x, y in zip(one, two, strict=True)], clusters)
        left_out = len(lines.keys() | others.keys()) - len(pairs)
        yield Compared(
            a.benchmark, reading, a.unit, a.system.name, b.system.name,
            (sum(one) / len(one), sum(two) / len(two)), len(pairs), left_out, difference,
        )  # fmt: skip


def _value(line: Mapping, reading: str, failed: float | None) -> float | None:
    value = line["verdicts"].get(reading, {}).get("value")
    return failed if value is None else value


def markdown(compared: list[Compared]) -> str:
    """A row for each reading."""
    first, second = compared[0].first, compared[0].second
    rows = [
        f"| benchmark | reading | {first} | {second} | difference | 95 % interval | p | items | left out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in compared:
        unit, found = each.unit, each.difference
        bounds = "–" if found.interval is None else f"{found.interval[0]:+.4g} – {found.interval[1]:+.4g}"
        p = f"{found.p:.4f}{'' if found.exact else ' (sampled)'}"
        rows.append(
            f"| {each.benchmark} | {each.reading} | {number(each.means[0], unit)} | {number(each.means[1], unit)} "
            f"| {found.mean:+.4g} | {bounds} | {p} | {each.items:,} | {each.left_out:,} |"
        )
    return "\n".join([*rows, "", METHOD])
