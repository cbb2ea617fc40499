"""Changing a run's mixture without repeating or losing an example: where a window of the pack plan ends.

A run that changes its data keeps the rows it was in the middle of: the window is finished by the old plan, and the
new one begins behind it, each task where its stream stood. A run may do so any number of times; the plans before the
present one are made again from their locks, which must stay.
"""

import bisect
import dataclasses
from collections.abc import Sequence

from bagpiper_jax.data.lengths import usable_records
from bagpiper_jax.data.mixture import Mixture
from bagpiper_jax.data.planner import Plan, Planned
from bagpiper_jax.data.position import Era, Position, ResumeError

MIGRATABLE = ("mixture", "caches", "rates", "window")
"""What a run may change between two windows. Of all else some rows of the window would be made anew, differently."""


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """What a plan is made with besides its mixture; see `planner.Plan`."""

    slots: int
    max_chunks: int
    seed: int
    window: int


def refuse_change(changed: Sequence[str], saved: dict, now: dict, migrate_from: Sequence[str]) -> None:
    """Raises ResumeError unless the changes may be migrated, and are asked to be."""
    details = "; ".join(f"{name}: {saved.get(name)} then, {now[name]} now" for name in changed)
    if not set(changed) <= set(MIGRATABLE):
        raise ResumeError(
            f"cannot resume, the data changed: {', '.join(changed)} ({details}). Restore the old settings, or start "
            "a new run from the checkpoint's parameters"
        )
    if not migrate_from:
        raise ResumeError(
            f"cannot resume, the data changed: {', '.join(changed)} ({details}). Restore the old settings and "
            "caches; or name the lock that this run was trained with in TrainConfig.migrate_from, to go on with the "
            "new ones where a window of the plan ends; or start a new run from the checkpoint's parameters"
        )


def require_locks(migrate_from: Sequence[str], eras: Sequence[Era]) -> None:
    """Raises ResumeError unless there is a lock for each era before the present one."""
    if len(migrate_from) != len(eras):
        raise ResumeError(
            f"this run changed its data {len(eras)} times; migrate_from must name the {len(eras)} locks before the "
            f"present one, oldest first, it names {len(migrate_from)}"
        )


@dataclasses.dataclass(frozen=True)
class Cursor:
    """Where a task's stream stands: examples taken, and what they were counted in."""

    taken: int
    records: int
    cache: str

    def within(self, records: int, cache: str) -> int:
        """The same place in a stream of `records` of `cache`: of other data, the beginning of the next epoch."""
        if (records, cache) == (self.records, self.cache):
            return self.taken
        return -(-self.taken // self.records) * records


def migrate(
    present: Mixture, past: Sequence[Mixture], eras: Sequence[Era], position: Position, settings: PlanSettings
) -> tuple["ChainedPlan", tuple[Era, ...]]:
    """The plan of a run whose data changed, and the eras before the present one with their ends.

    Args:
        present: the mixture from now on.
        past: the mixtures of those eras, oldest first.
        eras: those before the present one; the last may not have ended yet.
        position: where to resume.
        settings: of the present plan.

    Raises:
        ResumeError: a past mixture is not the one that its era had.
    """
    cursors: dict[str, Cursor] = {}
    plans, ended, begin = [], [], (0, 0)
    for mixture, era in zip(past, eras, strict=True):
        _require_same(mixture, era.identity)
        then = dataclasses.replace(settings, window=era.identity["window"])
        plan = _plan(mixture, then, begin, cursors)
        begin = _end_of_window(plan, position) if era.row is None else (era.row, era.window)
        cursors |= _cursors(plan, mixture, begin[1])
        plans.append(plan)
        ended.append(Era(era.identity, *begin))
    return ChainedPlan([*plans, _plan(present, settings, begin, cursors)]), tuple(ended)


def _require_same(mixture: Mixture, identity: dict) -> None:
    other = [name for name, value in mixture.identity().items() if identity.get(name) != value]
    if other:
        raise ResumeError(
            f"cannot migrate: the lock of {mixture.lock.mixture} has other {', '.join(other)} than this run had; "
            "name the very locks it was trained with in migrate_from, oldest first"
        )


def _plan(
    mixture: Mixture, settings: PlanSettings, begin: tuple[int, int], cursors: dict[str, Cursor]
) -> Plan:
    tasks, slots, chunks = mixture.lengths(), settings.slots, settings.max_chunks
    usable, _ = usable_records(tasks, slots, chunks)
    known = {
        task.name: cursors[task.name].within(len(records), cache.manifest_sha256)
        for task, records, cache in zip(tasks, usable, mixture.caches, strict=True)
        if task.name in cursors
    }
    return Plan(tasks, slots, chunks, settings.seed, mixture.lock.rate_unit, settings.window, begin, known)


def _cursors(plan: Plan, mixture: Mixture, window: int) -> dict[str, Cursor]:
    columns = (plan.tasks, plan.consumed(window), plan.usable, mixture.caches)
    return {
        task.name: Cursor(taken, len(usable), cache.manifest_sha256)
        for task, taken, usable, cache in zip(*columns, strict=True)
    }


def _end_of_window(plan: Plan, position: Position) -> tuple[int, int]:
    """(row, window) where the next window begins, or this one if it was not begun yet."""
    first, window = position.first_row, position.window
    plan.resume_at(first, window)
    return (first, window) if position.row == first else (first + len(plan.window(window)), window + 1)


class ChainedPlan:
    """Plans one behind the other; the tasks of all are numbered through. Thread-safe."""

    def __init__(self, plans: Sequence[Plan]):
        self._plans = tuple(plans)
        self.tasks = tuple(task for plan in plans for task in plan.tasks)
        self.usable = tuple(usable for plan in plans for usable in plan.usable)
        self.excluded = plans[-1].excluded
        self._offsets = [sum(len(plan.tasks) for plan in plans[:i]) for i in range(len(plans))]

    def row(self, row: int) -> Planned:
        """The examples of one row of the run."""
        return self._shifted(self._of(row, 0), lambda plan: plan.row(row))

    def locate(self, row: int) -> tuple[int, int]:
        """(first row, number) of the window that holds a row."""
        return self._plans[self._of(row, 0)].locate(row)

    def resume_at(self, first_row: int, window: int) -> None:
        """Spares planning all windows before this one, see `Plan.resume_at`."""
        self._plans[self._of(first_row, 0)].resume_at(first_row, window)

    def window(self, window: int) -> list[Planned]:
        """All rows of a window."""
        number = self._of(window, 1)
        rows = self._plans[number].window(window)
        return [self._shifted(number, lambda _, row=row: row) for row in rows]

    def _of(self, place: int, kind: int) -> int:
        """Which plan has a row (kind 0) or a window (kind 1)."""
        return bisect.bisect_right([plan.first[kind] for plan in self._plans], place) - 1

    def _shifted(self, number: int, read) -> Planned:
        planned = read(self._plans[number])
        return dataclasses.replace(planned, task=planned.task + self._offsets[number])
