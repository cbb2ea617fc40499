"""Shards of SeqIO tasks, written by this process, by a pool, or on Apache Beam. Each process loads TensorFlow once."""

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.shards import ExportError, Limits, part_path, write_shard
from bagpiper_jax.data.codes import MANIFEST as CODES_MANIFEST
from bagpiper_jax.data.codes import codec_fingerprint, read_manifest
from bagpiper_jax.pipelines.each import for_each
from bagpiper_jax.task_modules import load_task_modules
from bagpiper_jax.vocabulary import Vocabulary
from bagpiper_jax.workers import worker_pool

_log = logging.getLogger(__name__)


def configure_tasks(config: CacheConfig) -> None:
    """Registers the tasks of a job and tells them its settings.

    Raises:
        TaskModuleError, TokenizerError, CodeStoreError.
    """
    load_task_modules(config.task_modules)
    from tasks import settings

    codec = codec_fingerprint(config.codec) if Path(config.codec).suffix else config.codec
    codebook_size, num_streams = _codec_sizes(config.data_root, codec)
    settings.configure(
        settings.Settings(
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
    )
    _ = settings.current().text_tokenizer  # a missing tokenizer ends the job before it starts


def _codec_sizes(data_root: str, codec: str) -> tuple[int, int]:
    """Codes per codebook and streams of a codec, as its code stores tell; the release's where there is none."""
    for path in sorted(Path(data_root).glob(f"*/codes/{codec}/{CODES_MANIFEST}")) if codec else ():
        manifest = read_manifest(path)
        return manifest.codebook_size, manifest.num_codebooks
    release = Vocabulary()
    return release.codebook_size, release.num_streams


@dataclasses.dataclass(frozen=True)
class Shards:
    """The shards of a task's split that are still to be written.

    Attributes:
        task, split: the name of the task, and the split.
        directory: of the cache.
        missing: the numbers of the shards.
        count, inputs: all shards, and the examples of the source in them.
    """

    task: str
    split: str
    directory: Path
    missing: tuple[int, ...]
    count: int
    inputs: int


class ShardWriters:
    """Writes shards in this process, or in `config.workers` others that start when there is enough to do."""

    def __init__(self, config: CacheConfig):
        self._config = config
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ShardWriters":
        return self

    def __exit__(self, *_) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def write(self, shards: Shards) -> None:
        """Writes what is missing. Raises ExportError; what was finished stays."""
        if self._config.workers < 2 or len(shards.missing) < 2:
            for number in shards.missing:
                _write(self._config, shards, number)
            return
        if self._pool is None:
            self._pool = worker_pool(self._config.workers, _start_worker, self._config)
        try:
            waiting = [self._pool.submit(_write, self._config, shards, number) for number in shards.missing]
            for written in as_completed(waiting):
                written.result()
        except BrokenProcessPool as error:
            raise ExportError(
                f"a worker process died while caching {shards.task} {shards.split}, most likely for lack of memory; "
                "give CacheConfig.workers or shard_inputs a smaller number and run cache_tasks again: finished "
                "shards are kept"
            ) from error


def _start_worker(config: CacheConfig) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    configure_tasks(config)


def write_on_beam(config: CacheConfig, tasks: Sequence[Shards]) -> None:
    """Writes what is missing of all tasks, in one pipeline. Raises PipelineError; what was finished stays."""
    pieces = [(shards, number) for shards in tasks for number in shards.missing]
    if pieces:
        work, prepare = functools.partial(_write_piece, config), functools.partial(configure_tasks, config)
        counts = for_each("cache tasks", pieces, work, config.beam, prepare)
        _log.info("Apache Beam counted %s", dict(sorted(counts.items())))


def _write_piece(config: CacheConfig, piece: tuple[Shards, int]) -> dict[str, int]:
    """What a shard's examples came to. One that another attempt finished is not written again."""
    shards, number = piece
    if not part_path(shards.directory, number).exists():
        _write(config, shards, number)
    return json.loads(part_path(shards.directory, number).read_text())["counts"]


def _write(config: CacheConfig, shards: Shards, number: int) -> None:
    import seqio

    from tasks import settings

    task, current = seqio.get_mixture_or_task(shards.task), settings.current()
    limits = Limits(
        current.text_tokenizer.size, current.codebook_size, current.num_streams, config.max_slots,
        config.max_chunks,
    )  # fmt: skip
    inputs = shards.inputs // shards.count + (number < shards.inputs % shards.count)
    examples = _examples(task, shards.split, number, shards.count)
    write_shard(examples, inputs, limits, shards.directory, number, shards.count)


def _examples(task, split: str, shard: int, shards: int) -> Iterator[dict]:
    """A shard of a task's examples as numpy; `next` may raise and go on behind it.

    Our sources and our preprocessor need no tf.data, whose way into Python and back costs more than their work.
    `caching.agreement` compares what both ways give.
    """
    import seqio

    from tasks.preprocessors import encoder_of

    encode = encoder_of(task)
    if encode is not None and hasattr(task.source, "read_shard"):
        return map(encode, _read(task, split, shard, shards))
    dataset = task.get_dataset(
        sequence_length=None, split=split, use_cached=False, shuffle=False,
        shard_info=seqio.ShardInfo(shard, shards) if shards > 1 else None,
        try_in_mem_cache=False,  # sources may carry audio
    )  # fmt: skip
    return dataset.as_numpy_iterator()


def _read(task, split: str, shard: int, shards: int) -> Iterator[dict]:
    """What a source of ours reads. Raises ExportError where it fails: what comes behind would go missing."""
    try:
        yield from task.source.read_shard(split, shard, shards)
    except Exception as error:
        raise ExportError(
            f"the source of {task.name} failed in split {split}: {type(error).__name__}: {error}"
        ) from error


def count_inputs(task, split: str) -> int:
    """Examples of a task's source, before any preprocessor."""
    if hasattr(task.source, "read_shard"):
        return task.source.num_input_examples(split)
    dataset = task.source.get_dataset(split, shuffle=False)
    known = int(dataset.cardinality().numpy())
    return known if known >= 0 else sum(1 for _ in dataset)
