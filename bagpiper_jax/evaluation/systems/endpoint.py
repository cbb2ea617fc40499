"""A model behind an OpenAI-style endpoint under test."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bagpiper_jax import audio
from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, Question
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.evaluation.systems import clips
from bagpiper_jax.evaluation.systems.config import EndpointSystem
from bagpiper_jax.evaluation.systems.protocol import CANNOT_BEGIN
from bagpiper_jax.outcomes import RecordError

CUT = "the token limit ended it"
_LONGEST_SOUND = 3600.0
_TOKENS_PER_SECOND = 50  # of audio, for the budget; Qwen3-Omni makes 13


class EndpointUnderTest:
    """A `System`. Use `opened`."""

    costs = True

    def __init__(self, config: EndpointSystem, client: Client):
        endpoint = config.endpoint
        self.name = config.name or endpoint.model
        self.identity: dict[str, Any] = {
            "kind": "endpoint",
            "url": endpoint.url,
            "model": endpoint.model,
            "clip_form": config.clip_form,
            "temperature": config.temperature,
            "voice": config.voice,
            "max_seconds": config.max_seconds,
        }
        self.width, self.remarks = endpoint.concurrency, []
        self._config, self._client = config, client
        self._room = asyncio.Semaphore(2 * self.width)  # of clips in memory

    async def answer(self, item: str, asked: Asked, sound: Path) -> Reply:
        """As `System.answer`."""
        if asked.begun:
            return CANNOT_BEGIN
        try:
            async with self._room:
                answer = await self._client.ask(await self._question(item, asked, sound))
        except EndpointError:
            raise
        except Exception as error:
            return clips.fault(error)
        detail = "" if answer.finished else CUT
        if asked.wants == "audio" and answer.sound is None:
            return Reply(answer.text, fault="no_sound", detail="the endpoint answered without audio")
        if asked.wants == "audio" and (found := await asyncio.to_thread(_damage, answer.sound)):
            return Reply(answer.text, fault=found.reason, detail=found.detail)
        return Reply(answer.text, answer.sound, detail=detail)

    async def _question(self, item: str, asked: Asked, sound: Path) -> Question:
        """Raises RecordError: the clip cannot be used."""
        parts, seconds, identity = [], 0.0, []
        if asked.clip is not None:
            samples = await asyncio.to_thread(clips.read, asked.clip, self._config.max_seconds)
            seconds = len(samples) / audio.SAMPLE_RATE
            wav = base64.b64encode(audio.encode_wav(samples, audio.SAMPLE_RATE)).decode()
            parts.append(_part(wav, self._config.clip_form))
            identity = clip_identity(asked.clip)
        if asked.text:
            parts.append({"type": "text", "text": asked.text})
        content = parts if asked.clip is not None else asked.text
        further = {}
        if asked.wants == "audio":
            voice = {"voice": self._config.voice, "format": "wav"}
            further = {"modalities": ["text", "audio"], "audio": voice}
        return Question(
            "answer", item, (asked.text, *identity, asked.wants, self._config.clip_form, self._config.voice),
            lambda: [{"role": "user", "content": content}],
            size=len(asked.text.encode("utf-8", "replace")) + int(_TOKENS_PER_SECOND * seconds),
            temperature=self._config.temperature, max_tokens=asked.max_tokens, further=further,
            sound=sound if asked.wants == "audio" else None, again=True,
        )  # fmt: skip


def clip_identity(path: Path) -> list:
    """What changes with a clip's file. The runner's cache knows its content; this one only what was paid for."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _part(wav: str, form: str) -> dict:
    """A clip as a part of a message."""
    if form == "audio_url":
        return {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{wav}"}}
    return {"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}}


def _damage(path: Path | None) -> RecordError | None:
    """What is wrong with the sound that came back; it is removed, so that it is asked for again."""
    try:
        audio.read(path, max_seconds=_LONGEST_SOUND, min_seconds=0)
    except audio.AudioError as error:
        path.unlink(missing_ok=True)
        return RecordError(f"{error.reason}_sound", error.detail)
    return None


@contextlib.asynccontextmanager
async def opened(config: EndpointSystem, journal: Path) -> AsyncIterator[EndpointUnderTest]:
    """Opens the endpoint; its journal has every attempt, and what they all cost.

    Raises:
        EndpointError: no request can succeed.
        JournalError: another process writes the journal.
    """
    with Answers(journal) as answers:
        async with Client(config.endpoint, answers) as client:
            yield EndpointUnderTest(config, client)
