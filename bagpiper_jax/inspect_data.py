"""Shows what a cache holds and what any step of a run will see.

inspect_data --gin.InspectConfig.lock=cache/embedded_pretraining.lock.json
    --gin.InspectConfig.step=1200 --gin.InspectConfig.row=3     one row of a step
    --gin.InspectConfig.task=NAME --gin.InspectConfig.index=7   one example of a task
    --gin.InspectConfig.rejects=5                               rejects, five of each reason
An example or row with --gin.InspectConfig.audio_dir=DIR writes its clips, and with --gin.InspectConfig.codec=FILE
those that are codes too, decoded.
"""

import dataclasses
import functools
import sys
from pathlib import Path

from bagpiper_jax import configuration
from bagpiper_jax.data import report
from bagpiper_jax.data.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.codes import CodeStoreError, codec_fingerprint
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
        audio_dir: where the clips of a shown example or row are written; "" for nowhere.
        codec: file of the codec that made the codes: clips of codes are decoded and written too.
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
    codec: str = ""
    contents: bool = False


def inspect(config: InspectConfig) -> str:
    """The text that the configuration asks for. Raises CacheError."""
    lock, tokenizer = read_lock(config.lock), load_tokenizer(config.tokenizer)
    vocabulary = Vocabulary(max(tokenizer.size, lock.tokenizer_size), lock.codebook_size, lock.num_streams)
    loader = Loader(
        config.lock, config.shape, vocabulary, seed=config.seed, cfg_dropout=config.cfg_dropout,
        split=config.split, tokenizer=tokenizer.fingerprint, max_excluded=1.0,
        codec=codec_fingerprint(config.codec) if config.codec else None,
    )  # fmt: skip
    if config.contents:
        for cache in loader.caches:
            cache.check_files(contents=True)
    if config.rejects:
        return "\n".join(report.describe_rejects(cache, config.rejects) for cache in loader.caches)
    if config.index >= 0:
        record = _record(loader, config.task, config.index)
        write = functools.partial(report.write_record_audio, record, stem=f"{config.task}_{config.index}")
        return report.describe_record(record, tokenizer) + _written(config, write)
    if config.step >= 0:
        write = functools.partial(report.write_row_audio, loader, config.step, config.row)
        return report.describe_row(loader, config.step, config.row, tokenizer) + _written(config, write)
    return report.describe_mixture(loader, config.steps)


def _written(config: InspectConfig, write) -> str:
    """Writes the clips if they are asked for, and tells their paths."""
    if not config.audio_dir:
        return ""
    decode = _decoder(config.codec) if config.codec else None
    return "".join(f"\nwrote {path}" for path in write(directory=Path(config.audio_dir), decode=decode))


def _decoder(codec: str) -> report.Decode:
    # Only here: everything else is shown without loading a model.
    from bagpiper_jax.generation.replies import decode_clips
    from bagpiper_jax.models.codec.storage import load_codec

    parameters, config = load_codec(codec)
    return lambda codes: decode_clips(codes, parameters, config)


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
    except (CacheError, CodeStoreError, PlanError, RecordError, TokenizerError) as error:
        sys.exit(f"inspect_data: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
