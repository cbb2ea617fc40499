"""Tuning dialogues for clips, simulated (reference section 1.4): a persona's requests, reasoning, a judge.

A clip's caption gives two requests, realistic and imaginary; each, if it and its reasoning and its judgement pass,
becomes a clip `<id>.<style>` whose dialogue is [system], user request, assistant reasoning + caption, assistant audio.
"""

import dataclasses
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.captions.parsing import spoken_words
from bagpiper_jax.corpora.assembly import RecordError
from bagpiper_jax.corpora.questions import GENERATION_HEADS, REQUEST_STYLES
from bagpiper_jax.curation import judging
from bagpiper_jax.curation.asking import Job, Outcome, read_object, run, unreadable, whole
from bagpiper_jax.curation.derived import Entry
from bagpiper_jax.curation.endpoint import Client, text_question
from bagpiper_jax.curation.judging import Thresholds
from bagpiper_jax.manifest import Clip

_QUOTE = re.compile(r'["“]([^"“”]+)["”]')
_HEAD = r"^[\s\d.*#-]*{}\b"


@dataclasses.dataclass(frozen=True)
class SimulateConfig(Job):
    """What to simulate from. Every setting with a published value has it (reference section 1.4).

    Attributes:
        system_prompt: opens every dialogue if not empty (reference section 6.5).
        personas: how many are drawn for the model to choose from.
        min_words, max_words: of a request, what it quotes aside.
        min_heads, min_reasoning_chars: what counts as a reasoning trace.
        request_temperature, reasoning_temperature, judge_temperature: of the three stages.
        request_max_tokens, reasoning_max_tokens, judge_max_tokens: likewise.
        thresholds: what the judge must give.
        seed: of the personas drawn.
    """

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


def simulate(config: SimulateConfig) -> Path:
    """Writes the corpus of dialogues. Raises as `asking.run`."""
    simulator = Simulator(config)
    return run(config, "simulation", simulator.work, {"model": config.endpoint.model})


class Simulator:
    """The stages, each a question and the check of its answer."""

    def __init__(self, config: SimulateConfig):
        self._config = config
        self._prompts = {name: config.prompt(name) for name in ("requests", "reasoning", "judge")}
        lines = config.prompt("personas").template.splitlines()
        self._personas = [line.strip() for line in lines if line.strip()]

    async def work(self, client: Client, entry: Entry) -> list[Outcome]:
        """One outcome per style of request."""
        clip = entry.clip
        try:
            requests = await self._requests(client, clip)
        except RecordError as error:
            return [(f"{clip.id}.{style}", error) for style in REQUEST_STYLES]
        return [await self._outcome(client, clip, style, requests) for style in REQUEST_STYLES]

    async def _outcome(self, client: Client, clip: Clip, style: str, requests: dict) -> Outcome:
        try:
            return await self._dialogue(client, clip, style, requests)
        except RecordError as error:
            return f"{clip.id}.{style}", error

    async def _requests(self, client: Client, clip: Clip) -> dict:
        """The chosen persona and a request for each style. Raises RecordError."""
        if clip.audio is None or clip.caption is None:
            raise RecordError("no_caption", "simulation needs a captioned clip", "run caption_audio")
        offered = self._offered(clip.id)
        prompt = self._prompts["requests"].substitute(
            caption=clip.caption,
            personas="\n".join(f"{place}. {persona}" for place, persona in enumerate(offered, 1)),
            transcripts="\n".join(f'- "{said}"' for said in transcripts(clip)) or "(nothing is said)",
            min_words=self._config.min_words, max_words=self._config.max_words,
        )  # fmt: skip
        config = self._config
        question = text_question(
            "requests", clip.id, prompt, config.request_temperature, config.request_max_tokens
        )
        found = read_object(await client.ask(question), "requests")
        if found.get("persona") not in range(1, len(offered) + 1) or isinstance(found["persona"], bool):
            raise unreadable("requests", f"persona is {found.get('persona')!r}")
        for style in REQUEST_STYLES:
            if not isinstance(found.get(style), str):
                raise unreadable("requests", f"{style} is {found.get(style)!r}")
        return {**found, "persona": offered[found["persona"] - 1]}

    def _offered(self, id: str) -> list[str]:
        key = [self._config.seed, zlib.crc32(id.encode())]
        rng = np.random.Generator(np.random.Philox(key=key))
        count = min(self._config.personas, len(self._personas))
        return [self._personas[i] for i in rng.choice(len(self._personas), count, replace=False)]

    async def _dialogue(self, client: Client, clip: Clip, style: str, requests: dict) -> Clip:
        config, request = self._config, requests[style].strip()
        check_request(request, transcripts(clip), config.min_words, config.max_words)
        parts = {"request": request, "caption": clip.caption, "style": style}
        prompt = self._prompts["reasoning"].substitute(parts)
        id, temperature, most = (
            f"{clip.id}.{style}",
            config.reasoning_temperature,
            config.reasoning_max_tokens,
        )
        answer = await client.ask(text_question("reasoning", id, prompt, temperature, most))
        reasoning = checked_reasoning(
            whole(answer, "reasoning"), config.min_heads, config.min_reasoning_chars
        )
        prompt = self._prompts["judge"].substitute(parts, reasoning=reasoning, rubric=judging.RUBRIC)
        question = text_question("judge", id, prompt, config.judge_temperature, config.judge_max_tokens)
        marks = judging.read_marks(read_object(await client.ask(question), "judgement"))
        config.thresholds.require(style, marks)
        return self._assembled(clip, id, request, reasoning, judging.summary(marks), requests["persona"])

    def _assembled(
        self, clip: Clip, id: str, request: str, reasoning: str, marks: dict, persona: str
    ) -> Clip:
        prompt = self._config.system_prompt
        dialogue = [
            *([["system", "text", prompt]] if prompt else []),
            ["user", "text", request],
            ["assistant", "text", f"<think>\n{reasoning}\n</think>\n\n{clip.caption}"],
            ["assistant", "audio", id],
        ]
        metrics = {**(clip.metrics or {}), **marks, "persona": persona}
        return dataclasses.replace(clip, id=id, dialogue=dialogue, metrics=metrics)


def transcripts(clip: Clip) -> list[str]:
    """What is said in a clip: the annotation's turns, else what the caption quotes."""
    turns = (clip.annotation or {}).get("turns") or ()
    said = [turn["text"] for turn in turns] if turns else _QUOTE.findall(clip.caption)
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


def checked_reasoning(text: str, min_heads: int, min_chars: int) -> str:
    """The trace without the marks that dialogues put around it. Raises RecordError `reasoning_form`."""
    text = re.sub(r"</?think>", "", text).strip()
    heads = sum(
        bool(re.search(_HEAD.format(re.escape(head)), text, re.M | re.I)) for head in GENERATION_HEADS
    )
    if heads < min_heads or len(text) < min_chars:
        detail = f"{heads} heads, {len(text)} characters: {text[:200]!r}"
        raise RecordError("reasoning_form", detail, f"at least {min_heads} of {', '.join(GENERATION_HEADS)}")
    return text
