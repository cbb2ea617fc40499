"""The batch that a mixture's lengths ask for, as gin lines that a run takes."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.lengths import TaskLengths, largest
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.data.planner import Plan

_TILE = 128
"""Slots: rows are a multiple of what an accelerator multiplies at once."""
_MULTIPLES = (1, 2, 4)
"""How many of the longest example a row may hold."""
_BETTER = 0.01
"""By how much fuller rows must be to be worth twice the slots."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Sizes of a batch, and what they hold.

    Attributes:
        mixture: its name.
        shape: rows, slots and chunks.
        longest: slots and chunks of the longest example.
        packing, chunk_packing: share of slots and of audio chunks in use.
        min_packing: the limit that the run is held to.
    """

    mixture: str
    shape: BatchShape
    longest: tuple[int, int]
    packing: float
    chunk_packing: float
    min_packing: float

    def __str__(self) -> str:
        shape = self.shape
        lines = [
            f"# The longest example of {self.mixture} has {self.longest[0]} slots and {self.longest[1]} audio chunks.",
            f"# Rows of {shape.slots} slots and {shape.chunks} chunks hold every example; {self.packing:.1%} of their "
            f"slots and {self.chunk_packing:.1%} of their chunks are in use.",
            "TrainConfig.batch = @BatchShape()",
            f"BatchShape.rows = {shape.rows}",
            f"BatchShape.slots = {shape.slots}",
            f"BatchShape.chunks = {shape.chunks}",
        ]
        if self.packing < self.min_packing:
            lines += [
                "TrainConfig.limits = @MixtureLimits()",
                f"MixtureLimits.min_packing = {math.floor(100 * self.packing - 1) / 100}",
            ]
        return "\n".join(lines)


def propose(
    mixture: str,
    tasks: Sequence[TaskLengths],
    rate_unit: str,
    run: BatchShape,
    seed: int = 0,
    rows_unit: int = 1,
    limits: MixtureLimits = MixtureLimits(),
) -> Proposal:
    """Rows that hold every example, are as full as they can be, and make a step of about as many slots as the run's.

    Args:
        mixture, rate_unit: of the lock.
        tasks: the lengths of its tasks.
        run: the run's batch now.
        seed: the run's.
        rows_unit: what rows must be a multiple of: chips times accumulation.
        limits: those of the run.

    Raises:
        PackPlanError: the mixture is empty.
    """
    sizes = [largest(task) for task in tasks]
    longest = max(slots for slots, _ in sizes), max(chunks for _, chunks in sizes)
    found: Proposal | None = None
    for multiple in _MULTIPLES:
        slots = -(-longest[0] // _TILE) * _TILE * multiple
        chunks = _chunks(tasks, rate_unit, slots, longest[1], seed)
        packing, chunk_packing = _packing(Plan(tasks, slots, chunks, seed, rate_unit))
        rows = max(1, round(run.rows * run.slots / slots / rows_unit)) * rows_unit
        shape = dataclasses.replace(run, rows=rows, slots=slots, chunks=chunks)
        new = Proposal(mixture, shape, longest, packing, chunk_packing, limits.min_packing)
        if found and (rows == rows_unit or packing < found.packing + _BETTER):
            break
        found = new
        if packing >= limits.min_packing:
            break
    assert found is not None
    return found


def _chunks(tasks: Sequence[TaskLengths], rate_unit: str, slots: int, least: int, seed: int) -> int:
    """Audio chunks that nearly all rows of so many slots ask for, where they may have as many as they like."""
    asked = [int(row.chunks.sum()) for row in Plan(tasks, slots, slots, seed, rate_unit).window(0)]
    return max(least, math.ceil(np.quantile(asked, 0.95)))


def _packing(plan: Plan) -> tuple[float, float]:
    rows = plan.window(0)
    slots = sum(int(row.length.sum()) for row in rows) / len(rows) / plan.slots
    return slots, sum(int(row.chunks.sum()) for row in rows) / len(rows) / max(1, plan.max_chunks)
