"""A cached mixture together with the settings of the run that will read it."""

import dataclasses
from typing import Any

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.codes import CodeStoreError, codec_fingerprint
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.lock import Lock, read_lock
from bagpiper_jax.data.placing import WINDOW_CHUNKS
from bagpiper_jax.dialogue import RenderConfig
from bagpiper_jax.text import TextTokenizer, load_tokenizer
from bagpiper_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class ServedMixture:
    """What decides every row that a run is given.

    Attributes:
        lock: `<mixture>.lock.json` of the cache job.
        tokenizer: the one the mixture was cached with: "byte" or the path of a tokenizer.json.
        codec: file of the codec that made the codes; "" leaves it unchecked, and codes are not decoded.
        split: the split of the mixture.
        shape, render, seed, cfg_dropout, steps, window_chunks: settings of the run.
        vocabulary: the model's vocabulary; None takes the smallest that holds the mixture.
    """

    lock: str
    tokenizer: str = "byte"
    codec: str = ""
    split: str = "train"
    shape: BatchShape = BatchShape(rows=8, slots=8192, chunks=128)
    render: RenderConfig | None = None
    seed: int = 0
    cfg_dropout: float = 0.0
    steps: int = 1000
    window_chunks: int = WINDOW_CHUNKS
    vocabulary: Vocabulary | None = None

    @classmethod
    def of_training(cls, run: Any) -> "ServedMixture":
        """What a run with these settings (a `training.config.TrainConfig`) is given."""
        return cls(
            lock=run.train_lock,
            tokenizer=run.tokenizer or "byte",
            codec=run.codec or "",
            shape=run.batch,
            render=run.render,
            seed=run.seed,
            cfg_dropout=run.cfg_dropout,
            steps=run.steps,
            window_chunks=run.model.tower.window_chunks,
            vocabulary=run.model.vocabulary,
        )

    def read_lock(self) -> Lock:
        """Raises CacheError: missing, or no lock."""
        return read_lock(self.lock)

    def load_tokenizer(self) -> TextTokenizer:
        """Raises TokenizerError."""
        return load_tokenizer(self.tokenizer)

    def mismatches(self) -> list[str]:
        """Faults of a tokenizer or codec that are not those that the mixture was cached with."""
        lock, faults = self.read_lock(), []
        checks = [lambda: lock.require(self.load_tokenizer().fingerprint, None)]
        if self.codec:
            checks.append(lambda: lock.require(None, codec_fingerprint(self.codec)))
        for check in checks:
            try:
                check()
            except (CacheError, CodeStoreError) as error:
                faults.append(str(error))
        return faults

    def rendering(self) -> RenderConfig:
        """The run's template settings, or plain ones for as many streams as the mixture has. Raises CacheError."""
        return self.render or RenderConfig(stream_weights=(1.0,) * self.read_lock().num_streams)

    def open(self) -> Loader:
        """The run's own loader, whatever share of the examples exceeds a row.

        Tokenizer and codec are left to `mismatches`.

        Raises:
            CacheError, TokenizerError, PackPlanError: as `Loader`.
        """
        lock = self.read_lock()
        text_size = max(self.load_tokenizer().size, lock.tokenizer_size)
        return Loader(
            self.lock,
            self.shape,
            self.vocabulary or Vocabulary(text_size, lock.codebook_size, lock.num_streams),
            LoaderConfig(
                render=self.rendering(),
                seed=self.seed,
                cfg_dropout=self.cfg_dropout,
                split=self.split,
                max_excluded=1.0,
                window_chunks=self.window_chunks,
            ),
        )


def cache_of(loader: Loader, task: str) -> TaskCache:
    """The cache of one task. Raises CacheError: the mixture has no such task."""
    if task not in loader.task_names:
        raise CacheError(f"{task!r} is no task of this mixture; it has: {', '.join(loader.task_names)}")
    return loader.caches[loader.task_names.index(task)]
