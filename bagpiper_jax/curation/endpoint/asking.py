"""What the jobs that ask an endpoint share: clips in order, asked about concurrently, written in order."""

import asyncio
import contextlib
import dataclasses
import importlib.resources
import itertools
import logging
import string
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, fault_of
from bagpiper_jax.curation.derived import (
    Derivation,
    Dropped,
    SeenIds,
    SourceClip,
    read_source_clips,
)
from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, Endpoint
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.workers import in_order

ANSWERS = "answers.jsonl"
_BEGUN_PER_REQUEST = 16
"""Clips begun for each request under way, so that a slow one holds no other up."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class AskingConfig:
    """What the jobs that ask an endpoint have in common: corpora in, a corpus out, and the endpoint between.

    Attributes:
        corpora: the manifest directories to read.
        output: the directory of the new corpus and of `answers.jsonl`, which holds every answer.
        endpoint: the endpoint to ask, and how.
        prompts: a directory of files that stand in for the package's of the same name; "" has none.
        shard, num_shards: which part of the clips to take: every `num_shards`-th from the `shard`-th on. Each shard has
            an output of its own.
        max_reject_frac: the largest share of dropped records with which the job succeeds; answers are kept.
    """

    corpora: tuple[str, ...]
    output: str
    endpoint: Endpoint = Endpoint()
    prompts: str = ""
    shard: int = 0
    num_shards: int = 1
    max_reject_frac: float = 0.5

    def __post_init__(self):
        if not 0 <= self.shard < self.num_shards:
            raise ValueError("shard must lie in [0, num_shards)")

    def prompt(self, name: str) -> string.Template:
        """The prompt of that name. Raises CorpusError: the user's is missing or has a mark that nothing fills."""
        standard = _template(importlib.resources.files("bagpiper_jax.curation") / "prompts" / f"{name}.txt")
        if not self.prompts:
            return standard
        path = Path(self.prompts) / f"{name}.txt"
        try:
            own = _template(path)
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error
        marks = set(standard.get_identifiers())
        if not own.is_valid() or not set(own.get_identifiers()) <= marks:
            raise CorpusError(
                f"{path} may use ${', $'.join(sorted(marks)) or 'no marks'}; a dollar sign is written $$"
            )
        return own


def _template(path) -> string.Template:
    return string.Template(path.read_text(encoding="utf-8").strip())


Work = Callable[[Client, SourceClip], Awaitable[list[Clip | Dropped]]]


def run(config: AskingConfig, kind: str, work: Work, facts: dict) -> Path:
    """Does `work` for every clip and writes what comes of it, in the order of the input.

    Raises:
        CorpusError: too many drops, or an output that may not be replaced.
        EndpointError: the endpoint is down or refuses everything.
        JournalError: another process writes the answers, or the disk takes no more.
        ManifestError: an input is missing or damaged.
    """
    with Derivation(config.output, config.corpora, kind) as derivation:
        with Answers(derivation.directory / ANSWERS) as answers:
            _log.info("%d answers of before in %s", len(answers), derivation.directory / ANSWERS)
            asyncio.run(_run(config, derivation, answers, work))
            spent = {"requests": answers.requests, "tokens": answers.tokens}
        records, settings = derivation.kept + derivation.dropped, dataclasses.asdict(config)
        facts = {**facts, "records": records, "settings": settings}
        directory = derivation.finish(facts, config.max_reject_frac)
    counts = assembly.listing({"kept": derivation.kept, **derivation.reasons})
    _log.info("%s: %s; paid so far: %s", directory, counts, spent)
    return directory


async def _run(config: AskingConfig, derivation: Derivation, answers: Answers, work: Work) -> None:
    sources = read_source_clips(config.corpora, config.output)
    sources = itertools.islice(sources, config.shard, None, config.num_shards)
    seen = SeenIds()

    async def clips_of(source: SourceClip) -> list[Clip | Dropped]:
        made = await attempted(work_once(source))
        return [Dropped(source.clip.id, made)] if isinstance(made, RecordError) else made

    async def work_once(source: SourceClip) -> list[Clip | Dropped]:
        seen.require_new(source.clip.id)
        return await work(client, source)

    async with Client(config.endpoint, answers) as client:
        window = config.endpoint.concurrency * _BEGUN_PER_REQUEST
        async with contextlib.aclosing(in_order(clips_of, sources, window)) as worked:
            async for source, clips in worked:
                for made in clips:
                    derivation.write(source, made)


async def attempted(making: Awaitable[_T]) -> _T | RecordError:
    """What is being made of a record, or why there is none: no error that one record causes ends a job.

    Raises:
        EndpointError, JournalError, CorpusError: what is the fault of the endpoint, of the disk or of the settings.
    """
    try:
        return await making
    except EndpointError:
        raise
    except Exception as error:
        return fault_of(error)


def clip_by_clip(work: Callable[[Client, SourceClip], Awaitable[Clip]]) -> Work:
    """Work that makes one clip of one clip, as work that makes several."""

    async def clips(client: Client, source: SourceClip) -> list[Clip | Dropped]:
        return [await work(client, source)]

    return clips
