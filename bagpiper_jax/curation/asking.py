"""What the jobs that ask an endpoint share: clips in order, asked about concurrently, written in order."""

import asyncio
import collections
import dataclasses
import importlib.resources
import itertools
import json
import logging
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from bagpiper_jax import strict
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, RecordError, Reject
from bagpiper_jax.curation.derived import Derivation, Entry, Met, read_entries
from bagpiper_jax.curation.endpoint import Answer, Client, Endpoint
from bagpiper_jax.curation.journal import Journal
from bagpiper_jax.manifest import Clip

ANSWERS = "answers.jsonl"
_AHEAD = 16  # clips begun per request under way, so that a slow one holds no other up
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Job:
    """Corpora in, a corpus out, and the endpoint between.

    Attributes:
        corpora: manifest directories.
        output: directory of the new corpus and of `answers.jsonl`, which holds every response.
        endpoint: see there.
        prompts: directory of files that stand in for the package's of the same name.
        shard, num_shards: takes every `num_shards`-th clip from the `shard`-th on; one output per shard.
        max_reject_frac: a larger share of dropped records fails the job, answers kept.
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
        """The prompt of that name. Raises CorpusError: one's own is missing or has a mark that nothing fills."""
        ours = _template(importlib.resources.files(__package__) / "prompts" / f"{name}.txt")
        if not self.prompts:
            return ours
        path = Path(self.prompts) / f"{name}.txt"
        try:
            own = _template(path)
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error.strerror}") from error
        marks = set(ours.get_identifiers())
        if not own.is_valid() or not set(own.get_identifiers()) <= marks:
            raise CorpusError(
                f"{path} may use ${', $'.join(sorted(marks)) or 'no marks'}; a dollar sign is written $$"
            )
        return own


def _template(path) -> string.Template:
    return string.Template(path.read_text(encoding="utf-8").strip())


Outcome = Clip | tuple[str, RecordError]
"""A clip of the output, or the id of a record and why it is none."""

Work = Callable[[Client, Entry], Awaitable[list[Outcome]]]


def run(job: Job, kind: str, work: Work, facts: dict) -> Path:
    """Does `work` for every clip and writes what comes of it, in the order of the input.

    Raises:
        CorpusError: too many drops, an endpoint that is down or refuses, an output that may not be replaced.
        ManifestError: an input is missing or damaged.
    """
    derivation = Derivation(job.output, job.corpora, kind)
    journal = Journal(derivation.directory / ANSWERS)
    try:
        _log.info("%d answers of before in %s", len(journal), derivation.directory / ANSWERS)
        records = asyncio.run(_run(job, derivation, journal, work))
        spent = {"requests": journal.requests, "tokens": journal.tokens}
    finally:
        journal.close()
    assert records == derivation.kept + derivation.dropped
    settings = {"settings": dataclasses.asdict(job)}
    directory = derivation.finish({**facts, "records": records, **settings}, job.max_reject_frac)
    _log.info(
        "%s: %s; paid so far: %s",
        directory,
        assembly.listing({"kept": derivation.kept, **derivation.reasons}),
        spent,
    )
    return directory


async def _run(job: Job, derivation: Derivation, journal: Journal, work: Work) -> int:
    entries = itertools.islice(read_entries(job.corpora, job.output), job.shard, None, job.num_shards)
    met, records = Met(), 0

    async def once(entry: Entry) -> list[Outcome]:
        try:
            met.require_new(entry.clip.id)
        except RecordError as error:
            return [(entry.clip.id, error)]
        return await work(client, entry)

    async with Client(job.endpoint, journal) as client:
        window = job.endpoint.concurrency * _AHEAD
        async for entry, outcomes in _in_order(once, entries, window):
            for outcome in outcomes:
                records += 1
                _write(derivation, entry, outcome)
    return records


def _write(derivation: Derivation, entry: Entry, outcome: Outcome) -> None:
    if isinstance(outcome, Clip):
        derivation.keep(outcome)
    else:
        id, error = outcome
        derivation.drop(Reject(entry.file, entry.line, id, error.reason, error.detail, error.remedy))


async def _in_order(
    work: Callable[[Entry], Awaitable], entries: Iterable[Entry], window: int
) -> AsyncIterator[tuple[Entry, list[Outcome]]]:
    """(entry, outcomes) in the order of the entries, up to `window` of them begun."""
    begun = collections.deque()
    try:
        for entry in entries:
            begun.append((entry, asyncio.ensure_future(work(entry))))
            if len(begun) >= window:
                first, task = begun.popleft()
                yield first, await task
        while begun:
            first, task = begun.popleft()
            yield first, await task
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)


def one(work: Callable[[Client, Entry], Awaitable[Clip]]) -> Work:
    """Work that makes one clip of one clip, as work that gives outcomes."""

    async def outcomes(client: Client, entry: Entry) -> list[Outcome]:
        try:
            return [await work(client, entry)]
        except RecordError as error:
            return [(entry.clip.id, error)]

    return outcomes


def whole(answer: Answer, stage: str) -> str:
    """The text of an answer that was not cut off. Raises RecordError `cut_<stage>` or `unprintable_<stage>`."""
    if not answer.finished:
        raise RecordError(f"cut_{stage}", f"…{answer.text[-80:]!r}", "raise its max_tokens")
    if character := strict.unusable(answer.text):
        raise RecordError(f"unprintable_{stage}", f"{character} in {answer.text[:80]!r}", "ask another model")
    return answer.text.strip()


def read_object(answer: Answer, stage: str) -> dict:
    """The first JSON object in an answer, whatever stands around it. Raises RecordError `unreadable_<stage>`."""
    text = whole(answer, stage)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError) as error:
        raise unreadable(stage, f"{error}: {text[:200]!r}") from error
    return value


def unreadable(stage: str, detail: str) -> RecordError:
    return RecordError(f"unreadable_{stage}", detail, "ask another model, or change the prompt")
