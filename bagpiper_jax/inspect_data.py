"""Shows what a cache holds and what any step of a run will see.

inspect_data --gin.InspectConfig.lock=cache/embedded_pretraining.lock.json
    --gin.InspectConfig.step=1200 --gin.InspectConfig.row=3     one row of a step
    --gin.InspectConfig.task=NAME --gin.InspectConfig.index=7   one example of a task
    --gin.InspectConfig.rejects=5                               rejects, five of each reason
"""

import dataclasses
import sys
from pathlib import Path

from bagpiper_jax import configuration
from bagpiper_jax.data import report
from bagpiper_jax.data.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.data.planner import PlanError
from bagpiper_jax.data.records import RecordError
from bagpiper_jax.text import TokenizerError, load_tokenizer
from bagpiper_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Shows a cached mixture: its summary, or one example, row or list of rejects.

    Attributes:
        lock: `<mixture>.lock.json` of the cache job.
        tokenizer: the one the mixture was cached with.
        split: of the mixture.
        shape, seed, cfg_dropout: those of the run, so that rows are the run's.
        steps: length of the run, for the number of epochs.
        task, index: shows this example; index -1 for none.
        step, row: shows this row; step -1 for none.
        rejects: shows so many rejects of each reason.
        audio_dir: where the clips of a shown row are written; "" for nowhere.
        contents: True compares every shard with its hash.
    """

    lock: str
    tokenizer: str = "byte"
    split: str = "train"
    shape: BatchShape = BatchShape(rows=8, slots=8192, chunks=128)
    seed: int = 0
    cfg_dropout: float = 0.0
    steps: int = 1000
    task: str = ""
    index: int = -1
    step: int = -1
    row: int = 0
    rejects: int = 0
    audio_dir: str = ""
    contents: bool = False


def inspect(config: InspectConfig) -> str:
    """The text that the configuration asks for. Raises CacheError."""
    lock, tokenizer = read_lock(config.lock), load_tokenizer(config.tokenizer)
    vocabulary = Vocabulary(max(tokenizer.size, lock.tokenizer_size), lock.codebook_size, lock.num_streams)
    loader = Loader(
        config.lock, config.shape, vocabulary, seed=config.seed, cfg_dropout=config.cfg_dropout,
        split=config.split, tokenizer=tokenizer.fingerprint, max_excluded=1.0,
    )  # fmt: skip
    if config.contents:
        for cache in loader.caches:
            cache.check_files(contents=True)
    if config.rejects:
        return "\n".join(report.describe_rejects(cache, config.rejects) for cache in loader.caches)
    if config.index >= 0:
        return report.describe_record(_record(loader, config.task, config.index), tokenizer)
    if config.step >= 0:
        text = report.describe_row(loader, config.step, config.row, tokenizer)
        if config.audio_dir:
            written = report.write_row_audio(loader, config.step, config.row, Path(config.audio_dir))
            text += "".join(f"\nwrote {path}" for path in written)
        return text
    return report.describe_mixture(loader, config.steps)


def _record(loader: Loader, task: str, index: int):
    if task not in loader.task_names:
        raise CacheError(f"{task!r} is no task of this mixture; it has: {', '.join(loader.task_names)}")
    cache = loader.caches[loader.task_names.index(task)]
    if index >= len(cache):
        raise CacheError(f"{task} has {len(cache)} records, there is no record {index}")
    return cache.read(index)


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(InspectConfig, argv)
    try:
        print(inspect(config))
    except (CacheError, PlanError, RecordError, TokenizerError) as error:
        sys.exit(f"inspect_data: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
