"""Whether SeqIO still gives what a mixture's caches hold, on machines that have SeqIO, the tasks and the corpora.

`caching.agreement` compares; here its settings are read off the caches, and what cannot be compared becomes a note.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lock import open_caches
from bagpiper_jax.inspection.limits import Violation
from bagpiper_jax.inspection.served import ServedMixture
from bagpiper_jax.inspection.staleness import absent_inputs
from bagpiper_jax.task_modules import TaskModuleError, load_task_modules

RULE = "seqio"


def check_seqio(
    mixture: ServedMixture, data_root: str, task_modules: Sequence[str], max_shards: int
) -> tuple[tuple[Violation, ...], tuple[str, ...]]:
    """(differences, notes) of a split's tasks. Loads TensorFlow, unless nothing can be compared.

    Args:
        data_root: holds the corpora.
        task_modules: the modules whose import registers the tasks.
        max_shards: the number of shards of each cache to look at, evenly spread; 0 for all.
    """
    lock = mixture.read_lock()
    names = [task.task for task in lock.tasks(mixture.split)]
    caches = dict(zip(names, open_caches(mixture.lock, lock, mixture.split), strict=True))
    absent = {name: _not_here(cache, data_root) for name, cache in caches.items()}
    notes = [f"not compared with SeqIO: {name}: {reason}" for name, reason in absent.items() if reason]
    here = [name for name, reason in absent.items() if not reason]
    if not here:
        return (), tuple(notes)
    if reason := _not_importable(task_modules):
        return (), (*notes, f"not compared with SeqIO: {reason}")
    import seqio
    import tensorflow as tf

    from bagpiper_jax.caching import agreement

    tf.config.set_visible_devices([], "GPU")  # it would take the memory of those that train
    agreement.configure(_cache_job(mixture, caches[here[0]], data_root, task_modules))
    violations = []
    for name in here:
        if name not in seqio.TaskRegistry.names():
            registered = f"not registered by {', '.join(task_modules)}; set InspectConfig.task_modules"
            notes.append(f"not compared with SeqIO: {name}: {registered}")
            continue
        found = agreement.compare(name, mixture.split, caches[name], max_shards)
        if found.holds:
            notes.append(str(found))
        else:
            violations.append(Violation(RULE, name, found.difference, "run cache_tasks again"))
    return tuple(violations), tuple(notes)


def _not_here(cache: TaskCache, data_root: str) -> str:
    """Why a cache's inputs cannot be read again, or ""."""
    if not cache.manifest["provenance"].get("limits"):
        return "the cache does not tell its settings"
    return next(iter(absent_inputs(cache, data_root)), "")


def _not_importable(task_modules: Sequence[str]) -> str:
    if importlib.util.find_spec("seqio") is None:
        return "SeqIO is not installed"
    try:
        load_task_modules(task_modules)
    except TaskModuleError as error:
        return str(error)
    return ""


def _cache_job(
    mixture: ServedMixture, cache: TaskCache, data_root: str, task_modules: Sequence[str]
) -> CacheConfig:
    """The settings that the caches of a lock were made with; one job made them all."""
    made_from, lock = cache.manifest["provenance"], mixture.read_lock()
    return CacheConfig(
        mixtures=(lock.mixture,),
        data_root=data_root,
        cache_dir=str(Path(mixture.lock).parent),
        tokenizer=mixture.tokenizer,
        codec=lock.codec_fingerprint,
        max_seconds=made_from["limits"][2],
        system_prompt=made_from["system_prompt"],
        seed=made_from["seed"],
        task_modules=tuple(task_modules),
    )
