"""Opens the system that a configuration names."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bagpiper_jax.evaluation.running.cache import ReplyCache
from bagpiper_jax.evaluation.systems.config import (
    CaptionedSystem,
    CheckpointSystem,
    EndpointSystem,
    RecordedSystem,
    SystemConfig,
)
from bagpiper_jax.evaluation.systems.protocol import Systems


@contextlib.asynccontextmanager
async def opened(config: SystemConfig, folder: Path, part: str = "") -> AsyncIterator[Systems]:
    """The system, as it answers each benchmark.

    Args:
        config: which one.
        folder: where endpoints journal, and captions are kept.
        part: ends the names of those files, so that each shard has its own.

    Raises:
        BenchmarkError, EndpointError, JournalError, or as `load_generator`: it cannot be opened.
    """
    if isinstance(config, RecordedSystem):
        from bagpiper_jax.evaluation.systems.recorded import RecordedUnderTest

        yield lambda benchmark: RecordedUnderTest(config, benchmark)
    elif isinstance(config, EndpointSystem):
        from bagpiper_jax.evaluation.systems import endpoint

        async with endpoint.opened(config, folder / f"requests{part}.jsonl") as asked:
            yield lambda benchmark: asked
    elif isinstance(config, CheckpointSystem):
        from bagpiper_jax.evaluation.systems import engine

        async with engine.opened(config) as run:
            yield lambda benchmark: run
    else:
        async with _captioned(config, folder, part) as systems:
            yield systems


@contextlib.asynccontextmanager
async def _captioned(config: CaptionedSystem, folder: Path, part: str) -> AsyncIterator[Systems]:
    from bagpiper_jax.evaluation.systems.captioned import CaptionedUnderTest, reading

    async with (
        opened(config.captions, folder, part) as captioners,
        reading(config, folder / f"reader{part}.jsonl") as reader,
    ):
        with ReplyCache(folder, "captions", part) as captions:
            yield lambda benchmark: CaptionedUnderTest(config, captioners(benchmark), reader, captions)
