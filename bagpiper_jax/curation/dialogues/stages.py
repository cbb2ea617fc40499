"""What simulations of dialogues have in common: settings, and the stages that write, reason and judge."""

import dataclasses
import re
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bagpiper_jax.captions import AnnotationError, AudioAnnotation
from bagpiper_jax.captions.markup import markup_in, without_end_marks, without_wrapping
from bagpiper_jax.curation.dialogues import judging
from bagpiper_jax.curation.dialogues.judging import Thresholds
from bagpiper_jax.curation.endpoint.asking import AskingConfig
from bagpiper_jax.curation.endpoint.client import Client, text_question
from bagpiper_jax.curation.endpoint.replies import read_object, read_text
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

_HEAD = r"^[\s\d.*#-]*{}\b"


@dataclasses.dataclass(frozen=True)
class SimulateConfig(AskingConfig):
    """What to simulate from. Every setting with a published value has it (docs/reference.md, Tuning dialogues).

    Attributes:
        kinds: the kinds of dialogues to simulate.
        system_prompt: what opens generation dialogues, if not empty (docs/reference.md, System prompt).
        personas: the number of personas drawn for the model to choose from.
        min_words, max_words: the length of a request, what it quotes aside.
        min_heads, min_reasoning_chars: what counts as a reasoning trace; of the five heads of understanding one more.
        request_temperature, reasoning_temperature, judge_temperature: the sampling temperatures of the three stages.
        request_max_tokens, reasoning_max_tokens, judge_max_tokens: the most tokens of an answer in the three stages.
        thresholds: the marks that the judge must give.
        seed: what fixes the personas drawn, and the aspects and forms of questions.
    """

    kinds: tuple[Literal["generation", "understanding"], ...] = ("generation", "understanding")
    system_prompt: str = ""
    personas: int = 5
    min_words: int = 15
    max_words: int = 80
    min_heads: int = 3
    min_reasoning_chars: int = 50
    request_temperature: float = 0.7
    reasoning_temperature: float = 0.3
    judge_temperature: float = 0.1
    request_max_tokens: int = 768
    reasoning_max_tokens: int = 1024
    judge_max_tokens: int = 1536
    thresholds: Thresholds = Thresholds()
    seed: int = 42


class Stages:
    """The questions that simulations have in common, each with the check of its answer."""

    def __init__(self, config: SimulateConfig, prompts: Sequence[str]):
        self.config = config
        self._prompts = {name: config.prompt(name) for name in prompts}

    async def author(self, client: Client, id: str, prompt: str, **parts) -> dict:
        """What is written first: requests or a question. Raises RecordError."""
        asked = self._prompts[prompt].substitute(parts)
        most = self.config.request_max_tokens
        question = text_question(prompt, id, asked, self.config.request_temperature, most)
        return read_object(await client.ask(question), prompt)

    async def reason(self, client: Client, id: str, prompt: str, heads: Sequence[str], **parts) -> str:
        """A reasoning trace; one head may be missing of five as of four. Raises RecordError."""
        config = self.config
        asked = self._prompts[prompt].substitute(parts)
        question = text_question(prompt, id, asked, config.reasoning_temperature, config.reasoning_max_tokens)
        least = config.min_heads + len(heads) - 4
        answer = await client.ask(question)
        # The trace itself may come in marks of reasoning, since reasoning is what was asked for.
        trace = without_wrapping(without_end_marks(answer.text))
        text = read_text(dataclasses.replace(answer, text=trace), prompt)
        return checked_reasoning(text, heads, least, config.min_reasoning_chars)

    async def judge(
        self, client: Client, id: str, prompt: str, dimensions: judging.Dimensions, **parts
    ) -> dict:
        """A summary of sufficient marks; the style is what follows the clip's id. Raises RecordError."""
        config = self.config
        asked = self._prompts[prompt].substitute(parts, rubric=judging.rubric(dimensions))
        question = text_question(prompt, id, asked, config.judge_temperature, config.judge_max_tokens)
        marks = judging.read_marks(read_object(await client.ask(question), "judgement"), dimensions)
        config.thresholds.require(id.rpartition(".")[2], marks)
        return judging.summary(marks)

    def lines(self, prompt: str) -> list[str]:
        """The lines of a list among the prompts."""
        return [line.strip() for line in self._prompts[prompt].template.splitlines() if line.strip()]

    def drawing(self, id: str, purpose: str) -> np.random.Generator:
        """The randomness of one clip, whatever the order of clips."""
        key = [self.config.seed, zlib.crc32(f"{purpose}/{id}".encode())]
        return np.random.Generator(np.random.Philox(key=key))


def require_captioned(clip: Clip) -> None:
    """Raises RecordError `no_caption` or `caption_markup`."""
    if clip.audio is None or clip.caption is None:
        raise RecordError("no_caption", "simulation needs a captioned clip", "run caption_audio")
    if mark := markup_in(clip.caption):
        raise RecordError("caption_markup", f"{mark!r} in {clip.caption[:80]!r}", "repair the caption")


def annotation_of(clip: Clip) -> AudioAnnotation | None:
    """The clip's annotation. Raises RecordError `bad_annotation`."""
    try:
        return AudioAnnotation.from_json(clip.annotation) if clip.annotation else None
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error), "repair or remove the annotation") from error


def checked_reasoning(text: str, heads: Sequence[str], min_heads: int, min_chars: int) -> str:
    """The trace, if it has the form that was asked for. Raises RecordError `reasoning_form`."""
    found = sum(bool(re.search(_HEAD.format(re.escape(head)), text, re.M | re.I)) for head in heads)
    if found < min_heads or len(text) < min_chars:
        detail = f"{found} heads, {len(text)} characters: {text[:200]!r}"
        raise RecordError("reasoning_form", detail, f"at least {min_heads} of {', '.join(heads)}")
    return text
