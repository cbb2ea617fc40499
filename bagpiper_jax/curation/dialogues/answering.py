"""Understanding dialogues: a question about a clip, and the assistant's way to the answer.

user audio, user question, assistant caption + reasoning + answer (docs/reference.md, Tuning dialogues). Questions vary
by aspect and by form, both drawn from lists.
"""

import dataclasses

from bagpiper_jax.captions import describe
from bagpiper_jax.corpora.questions import CAPTION_LEAD, UNDERSTANDING_HEADS, thought
from bagpiper_jax.curation.derived import Dropped
from bagpiper_jax.curation.dialogues import judging
from bagpiper_jax.curation.dialogues.stages import SimulateConfig, Stages, annotation_of, require_captioned
from bagpiper_jax.curation.endpoint.asking import attempted
from bagpiper_jax.curation.endpoint.client import Client
from bagpiper_jax.curation.endpoint.replies import unreadable
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

_MAX_WORDS = {"question": 120, "answer": 200}


class Answering(Stages):
    """From a clip to a question about it."""

    def __init__(self, config: SimulateConfig):
        super().__init__(config, ("question", "evidence", "judge_answer", "aspects", "forms"))
        self._aspects = [line.partition(": ") for line in self.lines("aspects")]

    async def dialogues(self, client: Client, clip: Clip) -> list[Clip | Dropped]:
        """One."""
        id = f"{clip.id}.understanding"
        made = await attempted(self._dialogue(client, clip, id))
        return [Dropped(id, made) if isinstance(made, RecordError) else made]

    async def _dialogue(self, client: Client, clip: Clip, id: str) -> Clip:
        require_captioned(clip)
        drawing = self.drawing(clip.id, "question")
        aspect, form = drawing.choice(self._fitting(clip.domain)), drawing.choice(self.lines("forms"))
        found = await self.author(client, id, "question", caption=clip.caption, aspect=aspect, form=form)
        parts = {"caption": clip.caption, **{name: _text(found, name) for name in _MAX_WORDS}}
        reasoning = await self.reason(client, id, "evidence", UNDERSTANDING_HEADS, **parts)
        marks = await self.judge(
            client, id, "judge_answer", judging.UNDERSTANDING, **parts, reasoning=reasoning
        )
        dialogue = [
            ["user", "audio", id],
            ["user", "text", parts["question"]],
            [
                "assistant",
                "text",
                f"{_described(clip)}\n\n{thought(reasoning)}\n\n{parts['answer']}",
            ],
        ]
        metrics = {**(clip.metrics or {}), **marks, "aspect": str(aspect)}
        return dataclasses.replace(clip, id=id, dialogue=dialogue, metrics=metrics)

    def _fitting(self, domain: str) -> list[str]:
        """Aspects that one can ask of a clip of that domain."""
        return [aspect for of, _, aspect in self._aspects if of in ("any", domain) or domain == "mixed"]


def _text(found: dict, name: str) -> str:
    text = found.get(name)
    if not isinstance(text, str) or not 1 <= len(text.split()) <= _MAX_WORDS[name]:
        raise unreadable("question", f"{name} is {str(text)[:200]!r}")
    return text.strip()


def _described(clip: Clip) -> str:
    """The caption, and what an annotation knows beyond it. Raises RecordError `bad_annotation`."""
    annotation = annotation_of(clip)
    attributes = f"\n\n{describe(annotation, 'attributes')}" if annotation else ""
    return f"{CAPTION_LEAD}{clip.caption}{attributes}"
