"""What a run will see of a mixture, measured on windows spread over the whole run."""

import dataclasses

import numpy as np
from jaxtyping import Int

from bagpiper_jax import outcomes
from bagpiper_jax.data.lengths import largest
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.planner import FinitePlan, Planned
from bagpiper_jax.dialogue import DIRECTIONS

QUANTILES = (0.05, 0.5, 0.95, 1.0)
_WINDOWS = 8
_MOST_LENGTHS = 1 << 20


@dataclasses.dataclass(frozen=True)
class TaskSurvey:
    """One task of a mixture in a run.

    Attributes:
        name: the name of the task.
        records: examples in its cache.
        rate: the rate that the mixture asks for, as a share of all rates.
        examples, tokens: share that the run is given, by examples and by slots.
        epochs: passes over the task in the run.
        slots: length of its examples in slots at `QUANTILES`.
        over_long, over_long_tokens: share of its examples, and of its slots, that no row can hold.
        largest: slots of its longest example, and the most audio chunks of one.
        inputs: clips that it was made of.
        rejected: clips rejected when it was cached, by reason.
    """

    name: str
    records: int
    rate: float
    examples: float
    tokens: float
    epochs: float
    slots: tuple[int, ...]
    over_long: float
    over_long_tokens: float
    inputs: int
    rejected: dict[str, int]
    largest: tuple[int, int]

    @property
    def reject_share(self) -> float:
        return sum(self.rejected.values()) / max(1, self.inputs)


@dataclasses.dataclass(frozen=True)
class Survey:
    """A mixture in a run.

    Attributes:
        mixture, rate_unit: the lock's mixture and its unit of rates.
        split, steps, rows, slots, chunks: the run's sizes; the last three per step, row and row.
        tasks: the tasks in the order of the lock.
        packing, chunk_packing: share of slots and of audio chunks in use.
        examples_per_row: mean and maximum.
        directions: share of slots by direction.
        sampled: the number of rows that were measured.
    """

    mixture: str
    rate_unit: str
    split: str
    steps: int
    rows: int
    slots: int
    chunks: int
    tasks: tuple[TaskSurvey, ...]
    packing: float
    chunk_packing: float
    examples_per_row: tuple[float, int]
    directions: dict[str, float]
    sampled: int

    @property
    def run_tokens(self) -> float:
        """Slots in use in the whole run."""
        return self.packing * self.slots * self.rows * self.steps


@dataclasses.dataclass(frozen=True)
class SampledRow:
    """A row of the run and where it stands: `near_step` is exact in the first window."""

    window: int
    row: int
    near_step: int
    planned: Planned


def sample_rows(loader: Loader, steps: int, windows: int = _WINDOWS) -> list[SampledRow]:
    """All rows of windows spread evenly over a run of `steps` steps."""
    plan, per_step = loader.plan, loader.shape.rows
    assert not isinstance(plan, FinitePlan), "only an endless plan has windows"
    per_window = len(plan.window(0))
    last = max(0, -(-steps * per_step // per_window) - 1)
    found = []
    for window in np.unique(np.linspace(0, last, windows).round().astype(int)).tolist():
        for row, planned in enumerate(plan.window(window)):
            found.append(SampledRow(window, row, (window * per_window + row) // per_step, planned))
    return [row for row in found if row.near_step < steps] or found


def survey(loader: Loader, steps: int, split: str, rows: list[SampledRow]) -> Survey:
    """Measures a mixture on rows of `sample_rows`. Shares are those of the sample, the rest is exact."""
    planned = [row.planned for row in rows]
    task = np.concatenate([p.task for p in planned])
    length = np.concatenate([p.length for p in planned])
    count = len(loader.task_names)
    examples, tokens = np.bincount(task, minlength=count), np.bincount(task, length, minlength=count)
    per_row = len(task) / len(rows)
    asked = sum(locked.rate for locked in loader.lock.tasks(split))
    surveys = [
        _survey_task(
            loader, t, rate=loader.plan.tasks[t].rate / asked, examples=examples[t] / examples.sum(),
            tokens=tokens[t] / tokens.sum(), seen=examples[t] / len(rows) * steps * loader.shape.rows,
        )
        for t in range(count)
    ]  # fmt: skip
    chunks = sum(int(p.chunks.sum()) for p in planned)
    return Survey(
        mixture=loader.lock.mixture,
        rate_unit=loader.lock.rate_unit,
        split=split,
        steps=steps,
        rows=loader.shape.rows,
        slots=loader.shape.slots,
        chunks=loader.shape.chunks,
        tasks=tuple(surveys),
        packing=float(tokens.sum()) / len(rows) / loader.shape.slots,
        chunk_packing=chunks / len(rows) / max(1, loader.shape.chunks),
        examples_per_row=(per_row, max(map(len, planned))),
        directions=_direction_shares(loader, task, np.concatenate([p.index for p in planned]), length),
        sampled=len(rows),
    )


def _survey_task(
    loader: Loader, t: int, rate: float, examples: float, tokens: float, seen: float
) -> TaskSurvey:
    task, usable, manifest = loader.plan.tasks[t], loader.plan.usable[t], loader.caches[t].manifest
    lost = next((e for e in loader.plan.excluded if e.task == task.name), None)
    lost_tokens = lost.tokens if lost else 0
    return TaskSurvey(
        name=task.name,
        records=len(task.length),
        rate=float(rate),
        examples=float(examples),
        tokens=float(tokens),
        epochs=float(seen / len(usable)),
        slots=tuple(int(q) for q in np.quantile(_some_lengths(task.length), QUANTILES)),
        over_long=lost.share if lost else 0.0,
        over_long_tokens=lost_tokens / (lost_tokens + len(usable) * usable.mean_length),
        inputs=manifest["inputs"],
        rejected=rejected(manifest),
        largest=largest(task),
    )


def _some_lengths(length: Int[np.ndarray, "n ..."]) -> np.ndarray:
    """Lengths of at most about `_MOST_LENGTHS` records, evenly spread: an index may be larger than memory."""
    some = np.asarray(length[:: max(1, len(length) // _MOST_LENGTHS)])
    return some[some > 0]


def rejected(manifest: dict) -> dict[str, int]:
    """Reason → rejected clips of a cache."""
    return outcomes.rejected(manifest["counts"])


def _direction_shares(loader: Loader, task, index, length) -> dict[str, float]:
    slots = np.zeros(len(DIRECTIONS))
    for t, lengths in enumerate(loader.plan.tasks):
        here = task == t
        slots += np.bincount(lengths.direction[index[here]], length[here], minlength=len(DIRECTIONS))
    return {name: float(s / slots.sum()) for name, s in zip(DIRECTIONS, slots, strict=True) if s}
