"""The check before launch: every breach of a mixture at once, each with its remedy."""

import dataclasses
import functools
import itertools

import numpy as np

from bagpiper_jax import buckets, files
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.lengths import PackPlanError, TaskLengths, usable_records
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.lock import Lock, LockedTask
from bagpiper_jax.inspection import limits as _limits
from bagpiper_jax.inspection.examples import ShownRow, show_row
from bagpiper_jax.inspection.limits import Violation
from bagpiper_jax.inspection.served import ServedMixture
from bagpiper_jax.inspection.staleness import Staleness, staleness
from bagpiper_jax.inspection.survey import SampledRow, Survey, sample_rows, survey
from bagpiper_jax.inspection.tuning_data import Judged, judge_tuning_data
from bagpiper_jax.text import TokenizerError

DECODED_ROWS = 8


@dataclasses.dataclass(frozen=True)
class Validation:
    """The outcome.

    Attributes:
        violations: all of them; a mixture without any may be launched.
        survey: the survey of what the run will see, or None where its rows cannot be planned.
        rows: decoded ones, spread over the run.
        notes: remarks on what could not be compared, and on libraries of another version.
        judged: what of its tuning data was read for contradictions, by `tuning_data`.
    """

    violations: tuple[Violation, ...]
    survey: Survey | None = None
    rows: tuple[ShownRow, ...] = ()
    notes: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()


def validate(
    mixture: ServedMixture,
    limits: MixtureLimits = MixtureLimits(),
    data_root: str = "corpora",
    dialogues: int | None = None,
) -> Validation:
    """Checks a mixture in the run that will read it. Loads neither TensorFlow, SeqIO nor gin; takes seconds.

    Args:
        data_root: the directory of the corpora, to find caches that their corpora have outgrown.
        dialogues: dialogues of each task to judge, see `judge_tuning_data`; None judges none.
    """
    try:
        lock = mixture.read_lock()
        tokenizer = mixture.load_tokenizer()
        tasks = lock.tasks(mixture.split)
    except (CacheError, TokenizerError) as error:
        return Validation(
            (Violation("cache", mixture.lock, str(error), "nothing else can be checked before"),)
        )
    remedy = "the run and its cache must agree"
    mismatch = [Violation("cache", lock.mixture, fault, remedy) for fault in mixture.mismatches()]
    caches, faults = _open_caches(mixture, lock, tasks)
    unfit = [v for name, cache in caches.items() for v in _unplannable(name, cache, mixture)]
    stale, notes = _stale(caches, limits, data_root)
    known = (*mismatch, *faults, *unfit, *stale)
    if faults or unfit:
        return Validation(known, notes=notes)
    try:
        loader = mixture.open()
    except (CacheError, PackPlanError, ValueError) as error:
        rule = "plan" if isinstance(error, PackPlanError) else "cache"
        fault = Violation(rule, lock.mixture, str(error), "mend it and validate again")
        return Validation((*known, fault), notes=notes)
    sampled = sample_rows(loader, mixture.steps)
    found = survey(loader, mixture.steps, mixture.split, sampled)
    rows = tuple(_decode(loader, row, tokenizer) for row in _spread(sampled, DECODED_ROWS))
    judged: tuple[Judged, ...] = ()
    if dialogues is not None and not mismatch:  # another tokenizer would read other words
        served = dict(zip(loader.task_names, loader.caches, strict=True))
        judged = judge_tuning_data(served, tokenizer, data_root, dialogues)
    faults = itertools.chain.from_iterable(each.violations() for each in judged)
    violations = (*known, *_limits.breaches(found, limits), *_damage(rows), *faults)
    return Validation(violations, found, rows, notes, judged)


def _open_caches(
    mixture: ServedMixture, lock: Lock, tasks: tuple[LockedTask, ...]
) -> tuple[dict[str, TaskCache], list[Violation]]:
    """Caches that can be read, and a violation for each that cannot."""
    caches, faults = {}, []
    for task in tasks:
        try:
            cache = TaskCache(buckets.beside(mixture.lock, task.path))
            if cache.manifest_sha256 != task.manifest_sha256:
                raise CacheError(f"{cache.directory} is not the cache that {mixture.lock} was made from")
            cache.check_files()
            _ = cache.index
            caches[task.task] = cache
        except (CacheError, OSError, ValueError, KeyError) as error:
            faults.append(Violation("cache", task.task, str(error), "run cache_tasks again"))
    return caches, faults


def _unplannable(name: str, cache: TaskCache, mixture: ServedMixture):
    """A violation for a task of which no example fits a row: it leaves nothing to plan with."""
    lengths = TaskLengths(name, 1.0, *cache.lengths, cache.index["direction"])
    try:
        usable_records([lengths], mixture.shape.slots, mixture.shape.chunks)
    except PackPlanError as error:
        yield Violation(
            "max_over_long", name, str(error), "raise BatchShape.slots or BatchShape.chunks, or cut the clips"
        )


def _stale(
    caches: dict[str, TaskCache], limits: MixtureLimits, data_root: str
) -> tuple[tuple[Violation, ...], tuple[str, ...]]:
    """Violations and notes, each said once for all tasks that share it."""
    changed, notes = {}, {}
    hash_of = functools.cache(files.sha256)  # tasks share their code and their corpora
    for name, cache in caches.items():
        state: Staleness = staleness(cache, data_root, hash_of)
        for note in (*state.unchecked, *state.versions):
            notes.setdefault(note, []).append(name)
        if state.changed and not limits.allow_stale:
            changed.setdefault(state.changed, []).append(name)
    remedy = "run cache_tasks again, or set MixtureLimits.allow_stale"
    violations = [
        Violation("allow_stale", _some(tasks), f"changed since it was cached: {_some(what)}", remedy)
        for what, tasks in changed.items()
    ]
    said = tuple(f"{note} ({_some(tasks)})" for note, tasks in notes.items())
    return tuple(violations), said


def _some(names, most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _spread(rows: list[SampledRow], count: int) -> list[SampledRow]:
    places = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
    return [rows[p] for p in places]


def _decode(loader: Loader, row: SampledRow, tokenizer) -> ShownRow:
    return show_row(
        loader, row.planned, f"window {row.window} row {row.row}, near step {row.near_step}", tokenizer
    )


def _damage(rows: tuple[ShownRow, ...]):
    for row in rows:
        for example in row.examples:
            if example.fault:
                yield Violation(
                    "damaged",
                    f"{example.task} record {example.index}",
                    example.fault,
                    "find all with --contents, delete that cache and run cache_tasks again",
                )
