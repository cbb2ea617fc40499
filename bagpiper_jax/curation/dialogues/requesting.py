"""Generation dialogues: a persona's requests, realistic and imaginary, and the assistant's way to the audio.

[system], user request, assistant reasoning + caption, assistant audio (docs/reference.md, Tuning dialogues).
"""

import dataclasses
import re
from collections.abc import Sequence

from bagpiper_jax.captions.parsing import spoken_words
from bagpiper_jax.corpora.questions import GENERATION_HEADS, REQUEST_STYLES, thought
from bagpiper_jax.curation.derived import Dropped
from bagpiper_jax.curation.dialogues import judging
from bagpiper_jax.curation.dialogues.stages import SimulateConfig, Stages, annotation_of, require_captioned
from bagpiper_jax.curation.endpoint.asking import attempted
from bagpiper_jax.curation.endpoint.client import Client
from bagpiper_jax.curation.endpoint.replies import unreadable
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

_QUOTE = re.compile(r'["“]([^"“”]+)["”]')


class Requesting(Stages):
    """From a clip to requests for it."""

    def __init__(self, config: SimulateConfig):
        super().__init__(config, ("requests", "reasoning", "judge", "personas"))
        self._personas = self.lines("personas")

    async def dialogues(self, client: Client, clip: Clip) -> list[Clip | Dropped]:
        """One per style of request."""
        requests = await attempted(self._requests(client, clip))
        if isinstance(requests, RecordError):
            return [Dropped(f"{clip.id}.{style}", requests) for style in REQUEST_STYLES]
        return [await self._attempted(client, clip, style, requests) for style in REQUEST_STYLES]

    async def _attempted(self, client: Client, clip: Clip, style: str, requests: dict) -> Clip | Dropped:
        made = await attempted(self._dialogue(client, clip, style, requests))
        return Dropped(f"{clip.id}.{style}", made) if isinstance(made, RecordError) else made

    async def _requests(self, client: Client, clip: Clip) -> dict:
        """The chosen persona and a request for each style. Raises RecordError."""
        require_captioned(clip)
        offered = self._offered(clip.id)
        found = await self.author(
            client, clip.id, "requests",
            caption=clip.caption,
            personas="\n".join(f"{place}. {persona}" for place, persona in enumerate(offered, 1)),
            transcripts="\n".join(f'- "{said}"' for said in transcripts(clip)) or "(nothing is said)",
            min_words=self.config.min_words, max_words=self.config.max_words,
        )  # fmt: skip
        if type(found.get("persona")) is not int or not 1 <= found["persona"] <= len(offered):
            raise unreadable("requests", f"persona is {found.get('persona')!r}")
        for style in REQUEST_STYLES:
            if not isinstance(found.get(style), str):
                raise unreadable("requests", f"{style} is {found.get(style)!r}")
        return {**found, "persona": offered[found["persona"] - 1]}

    def _offered(self, id: str) -> list[str]:
        count = min(self.config.personas, len(self._personas))
        chosen = self.drawing(id, "personas").choice(len(self._personas), count, replace=False)
        return [self._personas[i] for i in chosen]

    async def _dialogue(self, client: Client, clip: Clip, style: str, requests: dict) -> Clip:
        id, request = f"{clip.id}.{style}", requests[style].strip()
        check_request(request, transcripts(clip), self.config.min_words, self.config.max_words)
        parts = {"request": request, "caption": clip.caption, "style": style}
        reasoning = await self.reason(client, id, "reasoning", GENERATION_HEADS, **parts)
        marks = await self.judge(client, id, "judge", judging.GENERATION, **parts, reasoning=reasoning)
        system = self.config.system_prompt
        dialogue = [
            *([["system", "text", system]] if system else []),
            ["user", "text", request],
            ["assistant", "text", f"{thought(reasoning)}\n\n{clip.caption}"],
            ["assistant", "audio", id],
        ]
        metrics = {**(clip.metrics or {}), **marks, "persona": requests["persona"]}
        return dataclasses.replace(clip, id=id, dialogue=dialogue, metrics=metrics)


def transcripts(clip: Clip) -> list[str]:
    """What is said in a clip: the annotation's turns, else what the caption quotes. Raises RecordError."""
    annotation = annotation_of(clip)
    turns = annotation.turns if annotation else ()
    said = [turn.text for turn in turns] if turns else _QUOTE.findall(clip.caption)
    return [text for text in said if spoken_words(text)]


def check_request(request: str, said: Sequence[str], min_words: int, max_words: int) -> None:
    """Raises RecordError `request_length` or `transcript_changed`."""
    words = len(_QUOTE.sub(" ", request).split())
    if not min_words <= words <= max_words:
        detail = f"{words} words outside quotes: {request[:200]!r}"
        raise RecordError("request_length", detail, f"requests have {min_words} to {max_words} words")
    asked = f" {' '.join(spoken_words(request))} "
    for text in said:
        if f" {' '.join(spoken_words(text))} " not in asked:
            raise RecordError(
                "transcript_changed", f"{text[:200]!r} is not in {request[:300]!r}", "ask another model"
            )
