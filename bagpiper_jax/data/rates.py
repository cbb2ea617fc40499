"""How often each task of a mixture comes in a run: rates out of sizes, shares, factors and a temperature.

    rate   = share of the task's group · weight / weights of the group
    weight = the mixture's own rate · factors · size^(1 / temperature)

Sizes are examples or tokens, as the lock counts rates (`CacheConfig.rate_unit`); they are known once tasks are cached,
so the cache job computes the rates and the lock keeps them. Pure: neither TensorFlow nor SeqIO.

The release repeats examples of a domain by a factor and then gives each direction the same budget of tokens
(docs/reference.md, Pre-training data); `gin/mixtures/published.gin` says so in these terms.
"""

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence

from bagpiper_jax.errors import Explained

RATE_UNITS = ("examples", "tokens")


class RateError(Explained, ValueError):
    """Rates that cannot be computed; the message says which setting and what to change."""


@dataclasses.dataclass(frozen=True)
class TaskSize:
    """A cached task: its name, the mixture's own rate, and how many examples and tokens (rendered rows) it has."""

    name: str
    rate: float
    examples: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Rates by size. Patterns are of task names, with `*`, `?` and `[…]`.

    Attributes:
        shares: pattern → what share of the run the tasks it matches have together; relative to each other. Each task
            must be in one group. Empty for a single group.
        factors: pattern → factor on the size of the tasks it matches; of several that match, all count.
        temperature: 1 is in proportion to size, more evens out; None leaves sizes aside.
    """

    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    factors: dict[str, float] = dataclasses.field(default_factory=dict)
    temperature: float | None = 1.0

    def __post_init__(self):
        for name, table in (("shares", self.shares), ("factors", self.factors)):
            wrong = {k: v for k, v in table.items() if not (math.isfinite(v) and v > 0)}
            if wrong:
                raise RateError(f"Mixing.{name} must be positive, got {wrong}; to drop a task give it rate 0")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature > 0):
            raise RateError(f"Mixing.temperature must be positive, or None, got {self.temperature}")

    def rates(self, tasks: Sequence[TaskSize], unit: str) -> dict[str, float]:
        """Task → share of the run, in `unit`s; they sum to 1.

        Raises:
            RateError: a pattern that matches no task, a task in no group or in two, a task without size.
        """
        _require_all_match("factors", self.factors, tasks)
        _require_all_match("shares", self.shares, tasks)
        weights = {task.name: self._weight(task, unit) for task in tasks}
        groups = {task.name: self._group(task.name) for task in tasks}
        totals = {
            group: math.fsum(w for n, w in weights.items() if groups[n] == group) for group in groups.values()
        }
        shares = self.shares or {"": 1.0}
        whole = math.fsum(shares[group] for group in totals)
        return {n: shares[groups[n]] / whole * weight / totals[groups[n]] for n, weight in weights.items()}

    def _weight(self, task: TaskSize, unit: str) -> float:
        if unit not in RATE_UNITS:
            raise RateError(f"rates count {' or '.join(RATE_UNITS)}, not {unit!r}")
        size = getattr(task, unit)
        if size <= 0 or task.rate <= 0:
            raise RateError(
                f"task {task.name} has {size} {unit} and rate {task.rate}; leave it out of the mixture"
            )
        by_size = 1.0 if self.temperature is None else size ** (1 / self.temperature)
        return task.rate * by_size * math.prod(f for p, f in self.factors.items() if _matches(task.name, p))

    def _group(self, task: str) -> str:
        if not self.shares:
            return ""
        found = [pattern for pattern in self.shares if _matches(task, pattern)]
        if len(found) != 1:
            patterns = " and ".join(found) or f"none of {', '.join(self.shares)}"
            raise RateError(f"Mixing.shares: task {task} must match one pattern, it matches {patterns}")
        return found[0]


def _matches(task: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(task, pattern)


def _require_all_match(setting: str, patterns: Iterable[str], tasks: Sequence[TaskSize]) -> None:
    names = [task.name for task in tasks]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; tasks: {', '.join(names)}"
            raise RateError(f"Mixing.{setting}: {pattern!r} matches no task of the mixture{hint}")


def expected_epochs(
    rates: Mapping[str, float], tasks: Sequence[TaskSize], unit: str, total: float
) -> dict[str, float]:
    """How often each task's examples come in a run of `total` units."""
    whole = math.fsum(rates[task.name] for task in tasks)
    return {task.name: total * rates[task.name] / whole / getattr(task, unit) for task in tasks}
