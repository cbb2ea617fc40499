"""Breaches of a mixture's limits, and what each asks of the user."""

import dataclasses
from collections.abc import Iterator

from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.inspection.survey import Survey, TaskSurvey


@dataclasses.dataclass(frozen=True)
class Violation:
    """One breach.

    Attributes:
        rule: a field of `MixtureLimits`; or "cache", "plan", "damaged", "seqio" or one of
            `corpora.contradictions.REASONS` for what no limit permits.
        place: the task, or the mixture.
        found: the measured value, beside the limit.
        remedy: the setting or command that helps.
    """

    rule: str
    place: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.place}: {self.found}; {self.remedy}"


def breaches(found: Survey, limits: MixtureLimits) -> Iterator[Violation]:
    """All breaches of what a survey measures."""
    for task in found.tasks:
        yield from _task_breaches(task, found, limits)
    if found.packing < limits.min_packing:
        chunks_run_out = found.chunk_packing > found.packing
        remedy = (
            "audio chunks run out before slots do: raise BatchShape.chunks"
            if chunks_run_out
            else "raise BatchShape.slots, or cache more examples (small caches are planned in small windows)"
        )
        yield Violation(
            "min_packing",
            found.mixture,
            f"{found.packing:.2%} of slots and {found.chunk_packing:.2%} of audio chunks are in use, "
            f"the limit is {limits.min_packing:.2%}",
            remedy,
        )


def _task_breaches(task: TaskSurvey, found: Survey, limits: MixtureLimits) -> Iterator[Violation]:
    if task.epochs > limits.max_epochs:
        yield Violation(
            "max_epochs",
            task.name,
            f"{task.epochs:.1f} epochs in {found.steps} steps, the limit is {limits.max_epochs:g}",
            "lower its rate, cache more examples of it, or train fewer steps",
        )
    if task.over_long > limits.max_over_long:
        yield Violation(
            "max_over_long",
            task.name,
            f"{task.over_long:.1%} of its examples ({task.over_long_tokens:.1%} of its slots) exceed a row and are "
            f"left out, the limit is {limits.max_over_long:.1%}; the longest has {task.largest[0]} slots and "
            f"{task.largest[1]} audio chunks, a row {found.slots} and {found.chunks}",
            "raise BatchShape.slots or BatchShape.chunks (--propose says to what), or cut the clips",
        )
    if task.reject_share > limits.max_rejected:
        reasons = ", ".join(f"{n} {reason}" for reason, n in task.rejected.items())
        yield Violation(
            "max_rejected",
            task.name,
            f"{task.reject_share:.1%} of {task.inputs} clips were rejected ({reasons}), "
            f"the limit is {limits.max_rejected:.1%}",
            "look at them with --rejects=5, repair the corpus and run cache_tasks again",
        )
