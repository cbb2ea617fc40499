"""A task tried without a cache: its first examples straight from SeqIO into memory, planned and served as ever.

For the minutes in which a task is written. Nothing touches the disk, and what SeqIO gives passes the same checks,
plan and rendering as a cache would; only the number of examples is small. Loads TensorFlow.
"""

import collections
import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterator

import numpy as np

from bagpiper_jax.caching import shards
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.export import mixture_rates
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.caching.task_shards import configure_tasks
from bagpiper_jax.data import records
from bagpiper_jax.data.cache import LENGTH_COLUMNS
from bagpiper_jax.data.lock import Lock, LockedTask
from bagpiper_jax.data.mixture import Mixture
from bagpiper_jax.data.records import Measure, Record
from bagpiper_jax.data.shuffle import short_hash
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.outcomes import Rejected

SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class LiveTask:
    """What the first examples of a task became; read like a `TaskCache`.

    Attributes:
        records: the usable ones.
        counts: outcome → how many, as in a cache's manifest.
        rejects: those that were rejected.
    """

    name: str
    records: tuple[Record, ...]
    counts: dict[str, int]
    rejects: tuple[shards.Judged, ...]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int, audio: bool = True) -> Record:
        return self.records[index]

    @functools.cached_property
    def index(self) -> dict[str, np.ndarray]:
        """Columns of lengths, as a cache's index."""
        return {
            name: np.asarray([getattr(m, name) for m in self._measures], np.int64) for name in LENGTH_COLUMNS
        }

    @functools.cached_property
    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots and chunks of all variants, as a cache's."""
        table = shards.variant_table([measure.variants for measure in self._measures])
        return table[..., 0], table[..., 1]

    largest = mean_length = None
    """So few are scanned."""

    @functools.cached_property
    def _measures(self) -> list[Measure]:
        return [records.measure(record, record.codes.shape[1]) for record in self.records]

    @functools.cached_property
    def manifest_sha256(self) -> str:
        """Differs where the examples do, so that no checkpoint of a live run is taken for another's."""
        return short_hash([records.encode(record) + record.audio for record in self.records])


def open_live(config: CacheConfig, mixture: str, examples: int = 200) -> Mixture:
    """The first `examples` clips of each task of a mixture, as `Loader` takes them in place of a lock's path.

    Raises:
        ExportError: unknown mixture, or a task of which no clip became an example; its rejects are named.
    """
    configure_tasks(config)
    from tasks import settings

    rates = {name: rate for name, rate in mixture_rates(mixture, config.rates).items() if rate > 0}
    tasks = [try_task(name, config, examples) for name in rates]
    for task in tasks:
        if not len(task):
            first = "; ".join(f"{judged.id}: {_told(judged)}" for judged in task.rejects[:3])
            raise ExportError(f"no clip of {task.name} became an example: {task.counts}. {first}")
    current = settings.current()
    lock = Lock(
        mixture=f"live {mixture}",
        rate_unit=config.rate_unit,
        tokenizer_fingerprint=current.text_tokenizer.fingerprint,
        tokenizer_size=current.text_tokenizer.size,
        codec_fingerprint=current.codec,
        codebook_size=current.codebook_size,
        num_streams=current.num_streams,
        max_slots=config.max_slots,
        splits={SPLIT: tuple(_locked(task, rates[task.name]) for task in tasks)},
        system_prompt=config.system_prompt,
    )
    return Mixture(lock, tuple(tasks), SPLIT)


def _locked(task: LiveTask, rate: float) -> LockedTask:
    direction = DIRECTIONS[int(np.bincount(task.index["direction"]).argmax())]
    return LockedTask(task.name, float(rate), "", task.manifest_sha256, len(task), direction)


def try_task(name: str, config: CacheConfig, examples: int) -> LiveTask:
    """What the first clips of a task become; `configure_tasks` must have been called."""
    import seqio

    from tasks import settings

    current = settings.current()
    limits = shards.Limits(
        current.text_tokenizer.size, current.codebook_size, current.num_streams, config.max_slots,
        config.max_chunks,
    )  # fmt: skip
    dataset = seqio.get_mixture_or_task(name).get_dataset(None, SPLIT, use_cached=False, shuffle=False)
    found, counts, rejects = [], collections.Counter(), []
    tried = shards.judge(dataset.take(examples).as_numpy_iterator(), limits)
    for judged in itertools.islice(tried, examples):
        counts[judged.outcome.counted_as] += 1
        if judged.record is not None:
            found.append(judged.record)
        elif isinstance(judged.outcome, Rejected):
            rejects.append(judged)
    return LiveTask(name, tuple(found), dict(counts), tuple(rejects))


def describe(mixture: Mixture) -> Iterator[str]:
    """What became of each task's clips, in lines for a terminal."""
    for task in typing.cast(tuple[LiveTask, ...], mixture.caches):
        length, chunks = task.lengths
        length = length[length > 0]
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(task.counts.items()))
        yield f"{task.name}: {counts}"
        yield (
            f"  slots {length.min()} to {length.max()}, mean {length.mean():.0f}; "
            f"audio chunks at most {chunks.max()}"
        )
        for judged in task.rejects[:3]:
            yield f"  {judged.id or '(no id)'}: {_told(judged)[:200]}"


def _told(judged: shards.Judged) -> str:
    return f"{judged.outcome.counted_as}: {judged.outcome}"
