"""Batches as a function of the step, from a lock. Loads neither TensorFlow nor SeqIO; Grain only to prefetch."""

import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bagpiper_jax.audio import MEL_BINS
from bagpiper_jax.batch import Batch, BatchShape, empty_batch
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.codes import codec_fingerprint
from bagpiper_jax.data.lengths import Excluded
from bagpiper_jax.data.migration import ChainedPlan, PlanSettings, migrate, refuse_change, require_locks
from bagpiper_jax.data.mixture import Mixture
from bagpiper_jax.data.placing import WINDOW_CHUNKS
from bagpiper_jax.data.planner import PLAN_VERSION, WINDOW, FinitePlan, PackPlanError, Plan
from bagpiper_jax.data.position import Era, Position, ResumeError
from bagpiper_jax.data.rows import RowMaker
from bagpiper_jax.data.shuffle import short_hash
from bagpiper_jax.dialogue import RenderConfig
from bagpiper_jax.text import load_tokenizer
from bagpiper_jax.vocabulary import Vocabulary

_log = logging.getLogger(__name__)

__all__ = ["Loader", "ResumeError", "fingerprints", "lock_path"]


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """How a mixture is served.

    Attributes:
        render: template settings.
        seed: of shuffling and of dropout.
        cfg_dropout: probability of dropping the condition of an example; use 0 to validate (docs/reference.md,
            Guidance dropout).
        split: of the mixture.
        finite: each example once, in order, the last batch padded with rows of zero weight.
        tokenizer, codec: fingerprints that this run uses; None skips the check.
        window: examples planned together, at most.
        max_excluded: largest share of a task's examples that may exceed a row.
        feature_cache_mb: MiB of mel features kept between epochs; pays where cores are scarce and data small.
        window_chunks: chunks per attention window of the model's audio tower.
        migrate_from: locks that this run was trained with before, oldest first: lets `Loader.check` accept that the
            data changed, see `data.migration`.
    """

    render: RenderConfig = RenderConfig()
    seed: int = 0
    cfg_dropout: float = 0.05
    split: str = "train"
    finite: bool = False
    tokenizer: str | None = None
    codec: str | None = None
    window: int = WINDOW
    max_excluded: float = 0.05
    feature_cache_mb: int = 0
    window_chunks: int = WINDOW_CHUNKS
    migrate_from: tuple[str, ...] = ()


class Loader:
    """Packed batches of a cached mixture.

    `batch(step)` is a pure function of the lock, the shape and the seed: any step, at any time, in any process.

    Args:
        lock_path: `<mixture>.lock.json` of the cache job, or a mixture opened already (`caching.live`).
        shape: global sizes of a batch; `shape.rows` must divide by `process_count`.
        vocabulary: of the model; its codec sizes must be those of the cache.
        config: how the mixture is served.
        process_index, process_count: whose rows `batch` gives.

    Raises:
        CacheError: the lock or a cache is missing, damaged or made with another tokenizer or codec, or too many
            examples exceed a row.
        PackPlanError: a task of which no example fits a row, or rows that do not divide among processes.
    """

    def __init__(
        self,
        lock_path: str | os.PathLike | Mixture,
        shape: BatchShape,
        vocabulary: Vocabulary,
        config: LoaderConfig = LoaderConfig(),
        process_index: int = 0,
        process_count: int = 1,
    ):
        if shape.mel_bins != MEL_BINS:
            raise ValueError(f"features have {MEL_BINS} mel bins, the batch is made for {shape.mel_bins}")
        if shape.rows % process_count:
            raise PackPlanError(
                f"{shape.rows} rows do not divide among {process_count} processes; set BatchShape.rows"
            )
        self.shape, self.vocabulary, self.config = shape, vocabulary, config
        is_open = isinstance(lock_path, Mixture)
        self._mixture = lock_path if is_open else Mixture.open(lock_path, config.split)
        self.lock = self._mixture.lock
        self.lock.require(config.tokenizer, config.codec)
        _require_sizes(self.lock, vocabulary, self.lock.mixture if is_open else lock_path)
        lengths = self._mixture.lengths()
        self.plan: Plan | FinitePlan | ChainedPlan
        if config.finite:
            self.plan = FinitePlan(lengths, shape.slots, shape.chunks, config.window)
        else:
            unit = self.lock.rate_unit
            self.plan = Plan(lengths, shape.slots, shape.chunks, config.seed, unit, config.window)
        _require_few_excluded(self.plan.excluded, config.max_excluded, shape)
        self._make_rows = functools.partial(
            RowMaker,
            vocabulary=vocabulary,
            render=config.render,
            seed=config.seed,
            cfg_dropout=config.cfg_dropout,
            feature_cache_mb=config.feature_cache_mb,
            window_chunks=config.window_chunks,
        )
        self._serve([self._mixture])
        self._local = range(*_share(shape.rows, process_index, process_count))
        self._origin = (0, 0)  # a step and its first row
        self._eras: tuple[Era, ...] = ()
        self._identity = {
            **self._mixture.identity(),
            "seed": config.seed,
            "cfg_dropout": config.cfg_dropout,
            "row": [shape.slots, shape.chunks],
            "plan": PLAN_VERSION,
            "window": config.window,
            "render": short_hash([repr(config.render), repr(vocabulary)]),
        }

    @property
    def num_steps(self) -> int:
        """Batches of a finite loader."""
        if not self.config.finite:
            raise TypeError("only a finite loader has a number of steps")
        return -(-len(self.plan) // self.shape.rows)

    def batch(self, step: int) -> Batch:
        """This process's rows of a step, as numpy: B is `shape.rows / process_count`."""
        batch, first = (
            empty_batch(len(self._local), self.shape, self.vocabulary.num_streams),
            self.first_row(step),
        )
        for local, row in enumerate(self._local):
            self.rows.fill(batch, local, self.plan.row(first + row))
        return batch

    def first_row(self, step: int) -> int:
        """Number of a step's first row among all rows of the run."""
        return self._origin[1] + (step - self._origin[0]) * self.shape.rows

    def contents(self, step: int) -> list[list[str]]:
        """Names of the examples in every row of a step, in all processes: `<task>:<index in its cache>`."""
        rows = (self.plan.row(self.first_row(step) + row) for row in range(self.shape.rows))
        return [
            [f"{self.task_names[t]}:{i}" for t, i in zip(row.task.tolist(), row.index.tolist(), strict=True)]
            for row in rows
        ]

    def iterate(self, start_step: int = 0, threads: int = 2, prefetch: int = 4) -> Iterator[Batch]:
        """Batches from `start_step` on, prepared ahead by Grain's threads, in the order of steps."""
        import grain

        end = self.num_steps if self.config.finite else start_step + 2**40
        dataset = grain.MapDataset.source(_Steps(self, start_step, end))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
        return iter(dataset.to_iter_dataset(options))

    def state(self, step: int) -> dict:
        """The position before `step`, for a checkpoint: JSON-able, below 1 kB, the same in every process."""
        row = self.first_row(step)
        first, window = (0, 0) if isinstance(self.plan, FinitePlan) else self.plan.locate(row)
        return Position(step, row, first, window, dict(self._identity), self._eras).to_json()

    def check(self, state: dict) -> int:
        """Accepts a position of an equal loader, in however many processes, and returns its step.

        With other rows per step the run goes on at the row where it stood.

        Raises:
            ResumeError: caches, rates, seed or shapes changed; each is named. Or `state` is no position.
        """
        saved, now = Position.from_json(state), self._identity
        eras = saved.eras
        changed = [name for name, value in now.items() if saved.identity.get(name) != value]
        if changed:
            refuse_change(changed, saved.identity, now, self.config.migrate_from)
            eras = (*eras, Era(saved.identity))
        if eras:
            self._migrate(eras, saved)
        if not isinstance(self.plan, FinitePlan):
            self.plan.resume_at(saved.first_row, saved.window)
        self._origin = (saved.step, saved.row)
        return saved.step

    def _migrate(self, eras: tuple[Era, ...], saved: Position) -> None:
        require_locks(self.config.migrate_from, eras)
        past = [Mixture.open(path, self._mixture.split) for path in self.config.migrate_from]
        settings = PlanSettings(self.shape.slots, self.shape.chunks, self.config.seed, self.config.window)
        self.plan, self._eras = migrate(self._mixture, past, eras, saved, settings)
        self._serve([*past, self._mixture])
        _log.info("migrated: the present mixture begins at row %d", self._eras[-1].row)

    def _serve(self, mixtures: Sequence[Mixture]) -> None:
        """Reads from the caches of these mixtures, whose tasks the plan numbers through."""
        self.caches = [cache for mixture in mixtures for cache in mixture.caches]
        self.task_names = tuple(name for mixture in mixtures for name in mixture.names)
        self.rows = self._make_rows(self.caches, self.task_names)


@dataclasses.dataclass(frozen=True)
class _Steps:
    """Random access by step, which is what Grain reads from."""

    loader: Loader
    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __getitem__(self, index: int) -> Batch:
        return self.loader.batch(self.start + index)


def _share(rows: int, index: int, count: int) -> tuple[int, int]:
    return rows * index // count, rows * (index + 1) // count


def _require_sizes(lock, vocabulary: Vocabulary, path) -> None:
    if lock.tokenizer_size > vocabulary.text_size:
        raise CacheError(
            f"{path} was cached with a tokenizer of {lock.tokenizer_size} ids, the model has room for "
            f"{vocabulary.text_size}; set Vocabulary.text_size"
        )
    cached = (lock.codebook_size, lock.num_streams)
    if cached != (vocabulary.codebook_size, vocabulary.num_streams):
        raise CacheError(
            f"{path} was cached for codebooks of {cached[0]} codes and {cached[1]} streams, the model has "
            f"{vocabulary.codebook_size} and {vocabulary.num_streams}; set Vocabulary to match"
        )


def _require_few_excluded(excluded: Sequence[Excluded], limit: float, shape: BatchShape) -> None:
    worst = max(excluded, key=lambda e: e.share, default=None)
    if worst and worst.share > limit:
        raise CacheError(
            f"{worst.share:.1%} of the examples of {worst.task} exceed a row of {shape.slots} slots and {shape.chunks} "
            f"audio chunks (the limit is {limit:.1%}); the longest has {worst.largest[0]} slots and {worst.largest[1]} "
            "chunks: raise BatchShape.slots or BatchShape.chunks (inspect_data --propose says to what), or "
            "MixtureLimits.max_over_long of TrainConfig.limits"
        )


def fingerprints(tokenizer: str | None, codec: str | None) -> dict[str, str | None]:
    """`LoaderConfig`'s tokenizer and codec, from the files that a run names; None stays None."""
    return {
        "tokenizer": load_tokenizer(tokenizer).fingerprint if tokenizer else None,
        "codec": codec_fingerprint(codec) if codec else None,
    }


def lock_path(cache_dir: str | os.PathLike, mixture: str) -> Path:
    """Where the cache job puts the lock of a mixture."""
    return Path(cache_dir) / f"{mixture}.lock.json"
