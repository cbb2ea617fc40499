"""Caption → text model → answer: how a base model, which only captions, is tested on questions."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, text_question
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.evaluation.running.cache import ReplyCache, clip_content
from bagpiper_jax.evaluation.systems import clips
from bagpiper_jax.evaluation.systems.config import CaptionedSystem
from bagpiper_jax.evaluation.systems.endpoint import CUT
from bagpiper_jax.evaluation.systems.protocol import CANNOT_BEGIN, System
from bagpiper_jax.generation.thinking import parted

PROMPT = """Below is a description of an audio clip. Answer the question about the clip from the description alone.

Description:
{caption}

{question}"""


class CaptionedUnderTest:
    """A `System` over one that captions; questions about one clip share its caption."""

    costs = True

    def __init__(self, config: CaptionedSystem, captioner: System, reader: Client, captions: ReplyCache):
        self.name = config.name or f"{captioner.name} → {config.reader.model}"
        self.identity: dict[str, Any] = {
            "kind": "captioned",
            "captions": captioner.identity,
            "caption_tokens": config.caption_tokens,
            "reader": {"url": config.reader.url, "model": config.reader.model},
            "temperature": config.temperature,
            "prompt": PROMPT,
        }
        self.width, self.remarks = captioner.width, captioner.remarks
        self._config, self._captioner, self._reader, self._captions = config, captioner, reader, captions

    async def answer(self, item: str, asked: Asked, sound: Path) -> Reply:
        """As `System.answer`; the caption stands before the answer, as reasoning does: `<think>caption</think>`."""
        if asked.clip is None or asked.wants != "text":
            return Reply(fault="no_clip", detail="only questions about a clip are answered from its caption")
        if asked.begun:
            return CANNOT_BEGIN
        try:
            caption = await self._caption(item, asked.clip, sound)
            if caption.fault or not asked.text:
                return caption
            said = parted(caption.text)[1].strip()
            prompt = PROMPT.format(caption=said, question=asked.text)
            question = text_question("read", item, prompt, self._config.temperature, asked.max_tokens)
            answer = await self._reader.ask(dataclasses.replace(question, again=True))
        except EndpointError:
            raise
        except Exception as error:
            return clips.fault(error)
        return Reply(f"<think>\n{said}\n</think>\n{answer.text}", detail="" if answer.finished else CUT)

    async def _caption(self, item: str, clip: Path, sound: Path) -> Reply:
        asked = Asked("", clip, "text", self._config.caption_tokens)
        if not self._captioner.costs:
            return await self._captioner.answer(item, asked, sound)
        key = self._captions.key(asked, await clip_content(clip), self._captioner.identity)
        return await self._captions.reply(key, lambda: self._captioner.answer(item, asked, sound))


@contextlib.asynccontextmanager
async def reading(config: CaptionedSystem, journal: Path) -> AsyncIterator[Client]:
    """Opens the text model. Raises EndpointError, JournalError."""
    with Answers(journal) as answers:
        async with Client(config.reader, answers) as client:
            yield client
