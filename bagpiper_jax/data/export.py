"""From SeqIO mixtures to caches and a lock. Loads TensorFlow; the only module of this room that does.

Restartable: a finished shard is never made again, and a cache's directory is named by everything it was made
from, so a changed corpus, tokenizer, codec or preprocessor makes a new one beside the old.
"""

import dataclasses
import difflib
import importlib
import json
import logging
import time
from collections import Counter
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.data import cache, provenance, records
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.codes import MANIFEST as CODES_MANIFEST
from bagpiper_jax.data.codes import codec_fingerprint
from bagpiper_jax.data.lock import Lock, LockedTask, write_lock
from bagpiper_jax.data.shards import ExportError, Limits, part_path, write_missing, writing
from bagpiper_jax.vocabulary import Vocabulary

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    """Caches SeqIO mixtures and writes a lock for each, `<cache_dir>/<mixture>.lock.json`.

    Attributes:
        mixtures: names of SeqIO mixtures or tasks; one job, since loading TensorFlow takes long.
        data_root: holds a directory per corpus.
        cache_dir: where caches and locks go.
        tokenizer: "byte" or the path of a tokenizer.json.
        codec: fingerprint of the codec that made the codes, or its .safetensors file; "" without codes.
        splits: train must be among them; others may be empty.
        rates: overrides the mixture's rates, task name → rate.
        rate_unit: whether rates count "examples" or "tokens".
        max_slots, max_chunks, max_seconds: longer examples are rejected; 0 chunks for no limit.
        max_reject_frac: the job refuses a task with a larger share of rejected clips.
        shard_inputs: clips per shard, the unit of restarting.
        system_prompt: see `tasks.settings`.
        seed: of every random choice of wording.
        task_modules: modules whose import registers the tasks; a user's own go here.
    """

    mixtures: tuple[str, ...]
    data_root: str
    cache_dir: str
    tokenizer: str = "byte"
    codec: str = ""
    splits: tuple[str, ...] = ("train", "validation")
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    rate_unit: str = "examples"
    max_slots: int = 8192
    max_chunks: int = 0
    max_seconds: float = 30.0
    max_reject_frac: float = 0.01
    shard_inputs: int = 1000
    system_prompt: str = ""
    seed: int = 0
    task_modules: tuple[str, ...] = ("tasks.mixtures",)


def cache_mixtures(config: CacheConfig) -> list[Path]:
    """Caches all tasks of the mixtures and returns the paths of their locks.

    Raises:
        ExportError: unknown mixture, a task without examples, or too many rejects.
    """
    for module in config.task_modules:
        importlib.import_module(module)
    from tasks import settings

    settings.configure(_task_settings(config))
    _ = settings.current().text_tokenizer  # a missing tokenizer ends the job before it starts
    rates = {mixture: _rates(mixture, config.rates) for mixture in config.mixtures}
    strangers = sorted(set(config.rates) - {task for tasks in rates.values() for task in tasks})
    if strangers:
        raise ExportError(f"rates for {strangers}, which are not in {', '.join(config.mixtures)}")
    return [_cache_mixture(mixture, tasks, config) for mixture, tasks in rates.items()]


def _cache_mixture(mixture: str, rates: dict[str, float], config: CacheConfig) -> Path:
    from tasks import settings

    rates = {name: rate for name, rate in rates.items() if rate > 0}
    if not rates:
        raise ExportError(f"mixture {mixture} is empty: no task has a positive rate")
    splits = {}
    for split in config.splits:
        locked = [_cache_task(name, rate, split, config) for name, rate in rates.items()]
        splits[split] = tuple(task for task in locked if task is not None)
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


def _generates(splits: dict[str, tuple[LockedTask, ...]]) -> bool:
    return any(task.direction == "generation" for tasks in splits.values() for task in tasks)


def _task_settings(config: CacheConfig):
    from tasks.settings import Settings

    codec = codec_fingerprint(config.codec) if Path(config.codec).suffix else config.codec
    codebook_size, num_streams = _codec_sizes(config.data_root, codec)
    return Settings(
        data_root=config.data_root,
        tokenizer=config.tokenizer,
        codec=codec,
        codebook_size=codebook_size,
        num_streams=num_streams,
        max_seconds=config.max_seconds,
        system_prompt=config.system_prompt,
        seed=config.seed,
        report_rejects=True,
    )


def _codec_sizes(data_root: str, codec: str) -> tuple[int, int]:
    """Codes per codebook and streams of a codec, as its code stores tell; the release's where there is none."""
    for path in sorted(Path(data_root).glob(f"*/codes/{codec}/{CODES_MANIFEST}")) if codec else ():
        made_by = json.loads(path.read_text(encoding="utf-8"))["config"]
        return made_by["codebook_size"], made_by["num_codebooks"]
    release = Vocabulary()
    return release.codebook_size, release.num_streams


def _rates(mixture: str, overrides: dict[str, float]) -> dict[str, float]:
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
    return {name: overrides.get(name, rate) for name, rate in sorted(rates.items())}


def _cache_task(name: str, rate: float, split: str, config: CacheConfig) -> LockedTask | None:
    import seqio

    task = seqio.get_mixture_or_task(name)
    if split not in task.splits:
        raise ExportError(f"task {name} has no split {split!r}; it has: {', '.join(task.splits)}")
    directory = export_task(task, split, config)
    made = TaskCache(directory)
    if not len(made):
        if split == "train":
            raise ExportError(
                f"task {name} has no examples in split train ({made.manifest['counts']}); "
                f"give it rate 0 in CacheConfig.rates, or add clips to the corpus"
            )
        _log.warning("task %s has no examples in split %s; left out of that split", name, split)
        return None
    return LockedTask(
        task=name,
        rate=rate,
        path=str(directory.relative_to(config.cache_dir)),
        manifest_sha256=made.manifest_sha256,
        records=len(made),
        direction=records.DIRECTIONS[int(np.bincount(made.index["direction"]).argmax())],
    )


def export_task(task, split: str, config: CacheConfig) -> Path:
    """Caches one SeqIO task and split, or finds it cached; returns the directory. Raises ExportError."""
    described = _describe(task, split, config)
    directory = Path(config.cache_dir) / task.name / split / provenance.fingerprint(described)
    if (directory / cache.COMPLETE).exists():
        _log.info("%s %s: already cached in %s", task.name, split, directory)
        _remove_leftovers(directory)
        return directory
    began = time.monotonic()
    shards = _write_missing_shards(task, split, directory, config)
    with writing(directory):
        manifest = finish(directory, described, shards, config.max_reject_frac)
    seconds = time.monotonic() - began
    _log.info(
        "%s %s: %d records of %d clips in %.1f s %s", task.name, split, manifest["records"],
        manifest["inputs"], seconds, {k: v for k, v in manifest["counts"].items() if k != "ok"} or "",
    )  # fmt: skip
    return directory


def _describe(task, split: str, config: CacheConfig) -> dict:
    """Everything that the records depend on."""
    from tasks import settings

    current = settings.current()
    return {
        "format": cache.FORMAT,
        "task": task.name,
        "split": split,
        "source": repr(task.source),
        "inputs": provenance.input_hashes(task),
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


def _write_missing_shards(task, split: str, directory: Path, config: CacheConfig) -> int:
    import seqio

    from tasks import settings

    current = settings.current()
    limits = Limits(
        current.text_tokenizer.size, current.codebook_size, current.num_streams, config.max_slots,
        config.max_chunks,
    )  # fmt: skip
    total = _count(task.source.get_dataset(split, shuffle=False))
    shards = max(1, -(-total // config.shard_inputs))

    def open_shard(shard: int):
        info = seqio.ShardInfo(shard, shards) if shards > 1 else None
        dataset = task.get_dataset(
            sequence_length=None, split=split, use_cached=False, shuffle=False, shard_info=info,
            try_in_mem_cache=False,
        )  # fmt: skip
        return dataset.as_numpy_iterator(), total // shards + (shard < total % shards)

    write_missing(directory, shards, open_shard, limits)
    return shards


def _count(dataset) -> int:
    known = int(dataset.cardinality().numpy())
    return known if known >= 0 else sum(1 for _ in dataset)


def finish(directory: Path, described: dict, shards: int, max_reject_frac: float) -> dict:
    """Joins the parts: rejects, index, manifest, and COMPLETE last. Raises ExportError: too many rejects."""
    parts = [json.loads(part_path(directory, shard).read_text()) for shard in range(shards)]
    tables = [np.load(directory / f"part-{s:05d}.npy", allow_pickle=False) for s in range(shards)]
    counts = sum((Counter(part["counts"]) for part in parts), Counter())
    with open(directory / cache.REJECTS, "w", encoding="utf-8") as file:
        for reject in (r for part in parts for r in part["rejects"]):
            file.write(json.dumps(reject, ensure_ascii=False) + "\n")
    inputs = sum(part["inputs"] for part in parts)
    _refuse_many_rejects(directory, counts, inputs, max_reject_frac)
    table = np.concatenate(tables)
    columns = {name: table[:, i] for i, name in enumerate(cache.INDEX_COLUMNS)}
    np.savez(directory / cache.INDEX, **columns)
    families = ["core", "audio"] if columns["n_audio"].any() else ["core"]
    manifest = {
        "inputs": inputs,
        "records": len(table),
        "counts": dict(sorted({"ok": 0, **counts}.items())),
        "families": families,
        "shards": [{"records": p["records"], "files": {f: p["files"][f] for f in families}} for p in parts],
        "index_sha256": files.sha256(directory / cache.INDEX),
        "provenance": {**described, "versions": provenance.library_versions()},
    }
    (directory / cache.MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (directory / cache.COMPLETE).touch()
    _remove_leftovers(directory)
    return manifest


def _refuse_many_rejects(directory: Path, counts: Counter, inputs: int, limit: float) -> None:
    rejected = {k: v for k, v in counts.items() if k.startswith("rejected ")}
    share = sum(rejected.values()) / max(1, inputs)
    if share > limit:
        raise ExportError(
            f"{sum(rejected.values())} of {inputs} clips rejected ({share:.1%}, the limit is {limit:.1%}): "
            f"{rejected}; see {directory / cache.REJECTS}, repair the corpus or raise max_reject_frac"
        )


def _remove_leftovers(directory: Path) -> None:
    """Parts, files of killed attempts, and audio shards without audio."""
    unwanted = [*directory.glob("part-*"), *directory.glob("*.tmp-*")]
    if "audio" not in TaskCache(directory).manifest["families"]:
        unwanted += directory.glob("audio.array_record-*")
    for path in unwanted:
        path.unlink(missing_ok=True)
