"""From SeqIO mixtures to caches and a lock. Loads SeqIO, and with it TensorFlow.

Restartable: a finished shard is never made again, and a cache's directory is named by everything it was made
from, so a changed corpus, tokenizer, codec or preprocessor makes a new one beside the old.
"""

import dataclasses
import difflib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.caching import provenance
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.joining import finish, remove_leftovers
from bagpiper_jax.caching.shards import ExportError, missing, writing
from bagpiper_jax.caching.task_shards import (
    Shards,
    ShardWriters,
    configure_tasks,
    count_inputs,
    write_on_beam,
)
from bagpiper_jax.data import cache
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lock import Lock, LockedTask, write_lock
from bagpiper_jax.data.rates import Mixing, TaskSize
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.runs.progress import Underway

_log = logging.getLogger(__name__)


def cache_mixtures(config: CacheConfig) -> list[Path]:
    """Caches all tasks of the mixtures and returns the paths of their locks; none if it wrote only a part.

    Raises:
        ExportError: unknown mixture, a task without examples, or too many rejects.
    """
    machine, machines = _machine(config.shard)
    with Underway("loading TensorFlow and the tasks"):
        configure_tasks(config)
    rates = {mixture: mixture_rates(mixture, config.rates) for mixture in config.mixtures}
    strangers = sorted(set(config.rates) - {task for tasks in rates.values() for task in tasks})
    if strangers:
        raise ExportError(f"rates for {strangers}, which are not in {', '.join(config.mixtures)}")
    if not set(config.mixing) <= set(config.mixtures):
        raise ExportError(
            f"CacheConfig.mixing for {sorted(config.mixing)}, the mixtures are {sorted(config.mixtures)}"
        )
    wanted = {
        (task.name, split): task
        for mixture, tasks in rates.items()
        for task, split in _tasks_and_splits(mixture, tasks, config)
    }
    made = _made(wanted, config, machine, machines)
    if machines > 1:
        _log.info("part %s written; when all are, run cache_tasks without CacheConfig.shard", config.shard)
        return []
    return [_lock_mixture(mixture, tasks, made, config) for mixture, tasks in rates.items()]


def _machine(shard: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    numbers = shard.split("/")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers) or not int(numbers[0]) < int(numbers[1]):
        raise ExportError(f"CacheConfig.shard must be 'i/n' with i from 0 to n - 1, got {shard!r}")
    return int(numbers[0]), int(numbers[1])


def _tasks_and_splits(mixture: str, rates: dict[str, float], config: CacheConfig):
    import seqio

    positive = [name for name, rate in rates.items() if rate > 0]
    if not positive:
        raise ExportError(f"mixture {mixture} is empty: no task has a positive rate")
    for split in config.splits:
        for name in positive:
            task = seqio.get_mixture_or_task(name)
            if split not in task.splits:
                raise ExportError(f"task {name} has no split {split!r}; it has: {', '.join(task.splits)}")
            yield task, split


def _lock_mixture(mixture: str, rates: dict[str, float], made: dict, config: CacheConfig) -> Path:
    from tasks import settings

    splits = {split: [] for split in config.splits}
    for task, split in _tasks_and_splits(mixture, rates, config):
        splits[split].append(_locked(task, rates[task.name], split, made[task.name, split], config))
    splits = {split: tuple(task for task in tasks if task) for split, tasks in splits.items()}
    if not splits["train"]:
        raise ExportError(
            f"no task of mixture {mixture} has an example in split train; add clips to the corpus"
        )
    if mixture in config.mixing:
        splits = _mixed(splits, config.mixing[mixture], config)
    tokenizer, codec = settings.current().text_tokenizer, settings.current()
    lock = Lock(
        mixture=mixture,
        rate_unit=config.rate_unit,
        tokenizer_fingerprint=tokenizer.fingerprint,
        tokenizer_size=tokenizer.size,
        codec_fingerprint=codec.codec,
        codebook_size=codec.codebook_size,
        num_streams=codec.num_streams,
        max_slots=config.max_slots,
        splits=splits,
        system_prompt=config.system_prompt if _generates(splits) else "",
    )
    path = Path(config.cache_dir) / f"{mixture}.lock.json"
    with writing(path.parent):
        write_lock(path, lock)
    _log.info("wrote %s", path)
    return path


def _mixed(
    splits: dict[str, tuple[LockedTask, ...]], mixing: Mixing, config: CacheConfig
) -> dict[str, tuple[LockedTask, ...]]:
    """The tasks with rates by their sizes in training, which hold for all splits."""
    sizes = []
    for task in splits["train"]:
        slots = round(TaskCache(Path(config.cache_dir) / task.path).mean_length * task.records)
        sizes.append(TaskSize(task.task, task.rate, task.records, slots))
    rates = mixing.rates(sizes, config.rate_unit)
    _log.info("rates in %s: %s", config.rate_unit, {name: round(rate, 4) for name, rate in rates.items()})
    return {
        split: tuple(dataclasses.replace(task, rate=rates[task.task]) for task in tasks)
        for split, tasks in splits.items()
    }


def _generates(splits: dict[str, tuple[LockedTask, ...]]) -> bool:
    return any(task.direction == "generation" for tasks in splits.values() for task in tasks)


def mixture_rates(mixture: str, overrides: dict[str, float]) -> dict[str, float]:
    """Task name → rate of a mixture, in order of names. Raises ExportError: unknown mixture."""
    import seqio

    known = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
    if mixture not in known:
        near = difflib.get_close_matches(mixture, known, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else f"; known: {', '.join(sorted(known))}"
        raise ExportError(f"unknown mixture or task {mixture!r}{hint}")
    provider = seqio.get_mixture_or_task(mixture)
    if isinstance(provider, seqio.Task):
        rates = {provider.name: 1.0}
    else:
        rates = {task.name: float(provider.get_rate(task)) for task in provider.tasks}
    return {name: float(overrides.get(name, rate)) for name, rate in sorted(rates.items())}


def _locked(task, rate: float, split: str, directory: Path, config: CacheConfig) -> LockedTask | None:
    made = TaskCache(directory)
    if not len(made):
        if split == "train" and not config.leave_out_empty:
            raise ExportError(
                f"task {task.name} has no examples in split train ({made.manifest['counts']}); "
                "give it rate 0 in CacheConfig.rates, set CacheConfig.leave_out_empty, or add clips to the corpus"
            )
        _log.warning("task %s has no examples in split %s; left out of that split", task.name, split)
        return None
    return LockedTask(
        task=task.name,
        rate=rate,
        path=str(directory.relative_to(config.cache_dir)),
        manifest_sha256=made.manifest_sha256,
        records=len(made),
        direction=DIRECTIONS[int(np.bincount(made.index["direction"]).argmax())],
    )


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A task's cache, before its shards are joined.

    Attributes:
        shards: what this machine has to write; None of a cache that is complete.
        described: what the records are made from.
    """

    directory: Path
    shards: Shards | None
    described: dict


def _made(wanted: dict[tuple[str, str], Any], config: CacheConfig, machine: int, machines: int) -> dict:
    """(Task, split) → directory of its cache, of which this machine's share is written; joined where that is all."""

    def begun(place: tuple[str, str]) -> _Begun:
        return _begin(wanted[place], place[1], config, machine, machines)

    if config.beam:
        caches = {place: begun(place) for place in wanted}
        with Underway("caching on Apache Beam"):
            write_on_beam(config, [each.shards for each in caches.values() if each.shards])
        for each in caches.values():
            _join(each, config, machines)
        return {place: each.directory for place, each in caches.items()}
    made = {}
    with ShardWriters(config) as writers:
        for place in wanted:
            each = begun(place)
            if each.shards:
                began = time.monotonic()
                with Underway(f"caching {' '.join(place)}"):
                    writers.write(each.shards)
                number, seconds = len(each.shards.missing), time.monotonic() - began
                _log.info("%s %s: %d of %d shards in %.1f s", *place, number, each.shards.count, seconds)
            _join(each, config, machines)
            made[place] = each.directory
    return made


def _begin(task, split: str, config: CacheConfig, machine: int, machines: int) -> _Begun:
    """Makes the directory of a task's cache, and finds out what this machine has to write."""
    described = _describe(task, split, config)
    directory = Path(config.cache_dir) / task.name / split / provenance.fingerprint(described)
    if (directory / cache.COMPLETE).exists():
        _log.info("%s %s: already cached in %s", task.name, split, directory)
        remove_leftovers(directory)
        return _Begun(directory, None, described)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(directory)
    inputs = count_inputs(task, split)
    count = max(1, -(-inputs // config.shard_inputs))
    mine = tuple(shard for shard in missing(directory, count) if shard % machines == machine)
    return _Begun(directory, Shards(task.name, split, directory, mine, count, inputs), described)


def _join(begun: _Begun, config: CacheConfig, machines: int) -> None:
    """Joins the shards of a cache, if this machine wrote them all."""
    if begun.shards is None or machines > 1:
        return
    with writing(begun.directory):
        manifest = finish(begun.directory, begun.described, begun.shards.count, config.max_reject_frac)
    others = {reason: count for reason, count in manifest["counts"].items() if reason != "ok"}
    _log.info("%d records of %d clips %s", manifest["records"], manifest["inputs"], others or "")


def _describe(task, split: str, config: CacheConfig) -> dict:
    """Everything that the records depend on."""
    from tasks import settings

    current = settings.current()
    return {
        "format": cache.FORMAT,
        "task": task.name,
        "split": split,
        "source": repr(task.source),
        "inputs": provenance.input_hashes(task, current.data_root),
        "preprocessors": provenance.arguments(task),
        "code": provenance.code_hashes(task),
        "tokenizer": current.text_tokenizer.fingerprint,
        "codec": current.codec,
        "codebook_size": current.codebook_size,
        "num_streams": current.num_streams,
        "limits": [config.max_slots, config.max_chunks, config.max_seconds],
        "system_prompt": config.system_prompt,
        "seed": config.seed,
        "shard_inputs": config.shard_inputs,
    }
