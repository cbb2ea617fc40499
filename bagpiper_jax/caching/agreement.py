"""Whether a task gives the same examples through SeqIO and through its cache, bit for bit, up to the batch.

SeqIO's own `get_dataset` is asked, as anyone would who never heard of caches. Its examples are compared with the
cache's records shard by shard, and rows that the loader serves with rows laid out from them. Loads TensorFlow.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bagpiper_jax import dialogue
from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import Batch, BatchShape, empty_batch
from bagpiper_jax.caching import shards
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.task_shards import configure_tasks
from bagpiper_jax.data import records
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.loader import Loader, LoaderConfig, lock_path
from bagpiper_jax.data.lock import open_caches, read_lock
from bagpiper_jax.data.placing import RowWriter
from bagpiper_jax.data.records import Record
from bagpiper_jax.dialogue import RenderConfig
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class SeqioAgreement:
    """What came out for one task and split.

    Attributes:
        compared: examples that both gave and that are equal in every feature.
        only_seqio, only_cache: ids that one gave and the other did not.
        different: "id: feature" where both gave an example and a feature differs.
    """

    task: str
    split: str
    compared: int
    only_seqio: tuple[str, ...] = ()
    only_cache: tuple[str, ...] = ()
    different: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not (self.only_seqio or self.only_cache or self.different)

    @property
    def difference(self) -> str:
        """How many examples of which kind, and the first three of each."""
        kinds = {
            "only SeqIO has": self.only_seqio,
            "only the cache has": self.only_cache,
            "differ": self.different,
        }
        return "; ".join(f"{kind} {len(ids)}: {', '.join(ids[:3])}" for kind, ids in kinds.items() if ids)

    def __str__(self) -> str:
        place = f"{self.task} {self.split}"
        if self.holds:
            return f"{place}: SeqIO and cache agree on {self.compared} examples"
        return f"{place}: {self.difference}; the cache is not what the task gives now, run cache_tasks again"


def configure(config: CacheConfig) -> None:
    """Registers the tasks as the cache job does, but for SeqIO's own use: rejected clips are filtered out."""
    configure_tasks(config)
    from tasks import settings

    settings.configure(dataclasses.replace(settings.current(), report_rejects=False))


def compare_all(config: CacheConfig, max_shards: int = 0) -> Iterator[SeqioAgreement]:
    """Compares every task and split of the mixtures that a cache job made. Raises CacheError: it has not."""
    configure(config)
    compared = set()
    for mixture in config.mixtures:
        path = lock_path(config.cache_dir, mixture)
        lock = read_lock(path)
        for split in filter(lock.splits.get, config.splits):
            for task, cache in zip(lock.tasks(split), open_caches(path, lock, split), strict=True):
                if (task.task, split) not in compared:
                    compared.add((task.task, split))
                    yield compare(task.task, split, cache, max_shards)


def compare(name: str, split: str, cache: TaskCache, max_shards: int = 0) -> SeqioAgreement:
    """Compares a task with its cache. Tasks must be configured (`configure`).

    Args:
        name: the name of a registered SeqIO task.
        max_shards: compares that many shards of the cache, evenly spread; 0 for all.
    """
    limits = _limits(cache)
    sizes = [shard["records"] for shard in cache.manifest["shards"]]
    ends = np.cumsum(sizes)
    chosen = np.unique(np.linspace(0, len(sizes) - 1, max_shards or len(sizes)).round().astype(int))
    compared, only_seqio, only_cache, different = 0, [], [], []
    for shard in chosen.tolist():
        given = {record.id: record for record in seqio_records(name, split, shard, len(sizes), limits)}
        kept = {r.id: r for r in map(cache.read, range(ends[shard] - sizes[shard], ends[shard]))}
        only_seqio += given.keys() - kept.keys()
        only_cache += kept.keys() - given.keys()
        faults = {i: _difference(given[i], kept[i]) for i in given.keys() & kept.keys()}
        different += [f"{i}: {feature}" for i, feature in faults.items() if feature]
        compared += sum(not feature for feature in faults.values())
    parts = (tuple(sorted(part)) for part in (only_seqio, only_cache, different))
    return SeqioAgreement(name, split, compared, *parts)


def seqio_records(
    name: str, split: str, shard: int, num_shards: int, limits: shards.Limits
) -> Iterator[Record]:
    """Records of one shard as SeqIO gives them, without those that the cache job refuses for their size."""
    import seqio

    info = seqio.ShardInfo(shard, num_shards) if num_shards > 1 else None
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=None,
        split=split,
        use_cached=False,
        shuffle=False,
        shard_info=info,
        try_in_mem_cache=False,
    )
    for example in dataset.as_numpy_iterator():
        try:
            yield shards.checked(example, example["id"].decode("utf-8"), limits)
        except RecordError:
            continue


def _limits(cache: TaskCache) -> shards.Limits:
    """What the records of a cache satisfy, as its provenance says."""
    from tasks import settings

    current, (max_slots, max_chunks, _) = settings.current(), cache.manifest["provenance"]["limits"]
    sizes = current.text_tokenizer.size, current.codebook_size, current.num_streams
    return shards.Limits(*sizes, max_slots, max_chunks)


def _difference(given: Record, kept: Record) -> str:
    """The first feature in which two records differ, or ""."""
    for field in dataclasses.fields(Record):
        ours, theirs = getattr(given, field.name), getattr(kept, field.name)
        same = ours == theirs if isinstance(ours, str | bytes) else _equal_arrays(ours, theirs)
        if not same:
            return field.name
    return ""


def _equal_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def compare_rows(
    lock: Path, split: str, shape: BatchShape, vocabulary: Vocabulary, render: RenderConfig = RenderConfig()
) -> list[str]:
    """Every row of a split as Grain serves it against the same row laid out from SeqIO's examples.

    Each example stands in one row. Holds all records in memory: for small splits. Tasks must be configured.

    Returns:
        "row 3: mel" for each row and array of the batch that differ.
    """
    loader = Loader(
        lock, shape, vocabulary, LoaderConfig(render=render, cfg_dropout=0.0, split=split, finite=True)
    )
    given = []
    for name, cache in zip(loader.task_names, loader.caches, strict=True):
        count = len(cache.manifest["shards"])
        limits = _limits(cache)
        given.append([r for shard in range(count) for r in seqio_records(name, split, shard, count, limits)])
    faults = []
    for step, batch in enumerate(loader.iterate()):
        expected = empty_batch(shape.rows, shape, vocabulary.num_streams)
        for row in range(shape.rows):
            _lay_out(expected, row, loader.plan.row(step * shape.rows + row), given, vocabulary, render)
        faults += _differing_rows(batch, expected, step * shape.rows)
    return faults


def _lay_out(batch: Batch, row: int, planned, given: list[list[Record]], vocabulary, render) -> None:
    writer = RowWriter(batch, row)
    columns = (planned.task, planned.index, planned.variant)
    for task, index, variant in zip(*(column.tolist() for column in columns), strict=True):
        record = given[task][index]
        rendered = dialogue.render(record.messages(variant=variant), vocabulary, render)
        direction = dialogue.DIRECTIONS.index(records.direction(record.skeleton()))
        writer.place(rendered, len(rendered), direction, [log_mel(span.samples) for span in rendered.audio])


def _differing_rows(batch: Batch, expected: Batch, first: int) -> list[str]:
    faults = []
    for field in dataclasses.fields(Batch):
        served, wanted = getattr(batch, field.name), getattr(expected, field.name)
        faults += [
            f"row {first + row}: {field.name}"
            for row in range(len(served))
            if not _equal_arrays(served[row], wanted[row])
        ]
    return faults
