"""Many requests through one engine: read as rows become free, written in the order of the input, in bounded memory."""

import asyncio
import contextlib
import dataclasses
import os
from pathlib import Path

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.curation.derived import SeenIds
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.offline.collecting import NO_SOUND, collected
from bagpiper_jax.generation.offline.faults import fault_of
from bagpiper_jax.generation.offline.folder import Answered, ReplyFolder
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.offline.records import Read, Record, Source
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.generation.thinking import parted
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.runs.progress import Underway
from bagpiper_jax.workers import in_order

_ASKED = 2
"""Requests for each row of the engine whose clips are in memory: no row waits for a clip to be read."""
_BEGUN = 16
"""Requests for each row that are read: a long answer holds up no other, though all are written in order."""


def answer_all(prompting: Prompting, config: EngineConfig, source: Source, folder: ReplyFolder) -> None:
    """Answers every request that the folder has no reply to.

    What is wrong with one request is a rejection, and the others go on.

    Raises:
        WriteError, JournalError: the disk refuses.
        Explained, or what the device raised: the engine broke.
    """
    with Underway("answering", source.count()) as progress, Engine(prompting.generator, config) as engine:
        asyncio.run(Answering(prompting, engine, config.rows, folder).run(source, progress))


class Answering:
    """Requests on their way from a source, through an engine, to a folder."""

    def __init__(self, prompting: Prompting, engine: Engine, rows: int, folder: ReplyFolder):
        self._prompting, self._engine, self._folder = prompting, engine, folder
        self._window, self._room = _BEGUN * rows, asyncio.Semaphore(_ASKED * rows)
        self._seen = SeenIds()
        self._rate = prompting.generator.sample_rate

    async def run(self, source: Source, progress: Underway) -> None:
        """Answers all. Raises as `answer_all`."""
        async with contextlib.aclosing(in_order(self._outcome, source, self._window)) as outcomes:
            async for _, outcome in outcomes:
                if isinstance(outcome, Answered):
                    self._folder.keep(outcome)
                elif isinstance(outcome, Reject):
                    self._folder.reject(outcome)
                progress.add()

    async def _outcome(self, read: Read) -> Answered | Reject | None:
        """What becomes of a request; None if it was answered before."""
        try:
            return await self._answered(read)
        except Exception as error:
            return Reject.by(fault_of(error, self._engine), read.file, read.line, read.id)

    async def _answered(self, read: Read) -> Answered | None:
        if read.fault is not None or read.record is None:
            raise read.fault or RecordError("no_request")
        record = read.record
        self._seen.require_new(record.id)
        asked = _digest(record, read.clip)
        if (before := self._folder.asked(record.id)) is not None:
            if before != asked:
                remedy = "give the request another id, or name another folder with --output"
                raise RecordError("changed_request", f"{record.id} was answered as another request", remedy)
            return None
        async with self._room:
            return await self._ask(record, read.clip, asked)

    async def _ask(self, record: Record, clip: Path | None, asked: str) -> Answered:
        prompting, loop = self._prompting, self._prompting.loop_for(hears=clip is not None)
        if clip is None:
            dialogue = prompting.for_audio(record.text)
        else:
            dialogue = prompting.about(await asyncio.to_thread(audio.read, clip), record.question)
        stream = self._engine.submit(dialogue, loop, record.seed, record.begun)
        async with contextlib.aclosing(stream):
            reply = await collected(stream)
        sound, seconds = None, 0.0
        if reply.audio is not None and len(reply.audio):
            sound = await asyncio.to_thread(self._folder.write_sound, record.id, reply.audio, self._rate)
            seconds = round(len(reply.audio) / self._rate, 3)
        elif "audio" in loop.modalities:
            raise RecordError("no_sound", NO_SOUND)
        reasoning, text = parted(reply.text)
        return Answered(
            record.id, asked, reasoning, text, record.audio or None, sound, seconds, reply.complete
        )


def _digest(record: Record, clip: Path | None) -> str:
    """Changes with what is asked, the clip's file included. Raises RecordError: that is gone."""
    fields = dataclasses.asdict(record)
    if clip is None:
        return assembly.digest(fields)
    try:
        status = os.stat(clip)
    except OSError as error:
        raise RecordError("missing_audio", f"{clip}: {error.strerror}", audio.REMEDIES["missing"]) from error
    return assembly.digest(fields, status.st_size, status.st_mtime_ns)
