"""Questions about clips and requests for sound, as runs are tuned to answer (docs/reference.md, Tuning dialogues)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.corpora import questions
from bagpiper_jax.corpora.questions import DialogueJson, QuestionError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.scenes import hearing
from bagpiper_jax.evaluation.benchmarks.scenes.agreement import (
    answer_score,
    answers_by_topic,
    right_answer,
    rotated,
)
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import HeldOut, Sizes, read_corpus
from bagpiper_jax.manifest import Clip

QUESTIONS, TOPICS = "Question → caption, reasoning, answer", "Answers by topic"
REQUESTS = "Request → reasoning, caption, audio"


class SceneDialogues:
    """The benchmark `scene_dialogues`. Its files are a corpus of ours, whose annotations the questions are made of.

    The deaf control of answers is asked the same about the next clip, and at the ceiling the reply begins with the true
    caption; a system that cannot begin a reply has no ceiling. Sounds of requests are captioned by the evaluator
    `captioner`. There is no official script: a reply that is missing counts as wrong.
    """

    name: ClassVar[str] = "scene_dialogues"
    version: ClassVar[str] = "1"
    failed: ClassVar[float | None] = None
    unit: ClassVar[str] = "%"
    overlaps: ClassVar[Sequence[str]] = ()

    def __init__(self, files: Path, tools: Tools, sizes: Sizes = Sizes()):
        self._tools, self._sizes = tools, sizes
        self._corpus = read_corpus(files, sizes.split, sizes.clips)
        self._examples = self._corpus.by_id
        self._heard: dict[str, str] = {}
        self._missing = ""

    def items(self) -> Iterable[Item]:
        yield from self._questions()
        yield from self._requests()

    def _questions(self) -> Iterator[Item]:
        asked = list(self._dialogues(self._corpus.held_out, questions.understanding_dialogue))
        for example, dialogue in asked:
            yield self._question("question", example, dialogue, example.path)
        for example, dialogue in asked:
            begun = questions.before_thought(dialogue[2][2])
            yield self._question("told", example, dialogue, example.path, begun)
        others = rotated([example.path for example, _ in asked]) or []
        for (example, dialogue), other in zip(asked, others, strict=False):
            yield self._question("deaf", example, dialogue, other)

    def _question(
        self, kind: str, example: HeldOut, dialogue: DialogueJson, path: Path, begun: str = ""
    ) -> Item:
        text, true = dialogue[1][2], questions.final_answer(dialogue[2][2])
        topic = next(each.topic for each in _questions_of(example.clip) if each.question == text)
        asked = Asked(text, path, max_tokens=self._sizes.reply_tokens, begun=begun)
        return _item(kind, QUESTIONS, example, asked, topic=topic, answer=true)

    def _requests(self) -> Iterator[Item]:
        first = self._corpus.held_out[: self._sizes.requests]
        asked = list(self._dialogues(first, questions.planning_dialogue))
        for kind in ("request", "told_request"):
            for example, (request, planned) in asked:
                begun = planned[2] if kind == "told_request" else ""
                wanted = Asked(request[2], None, "audio", self._sizes.reply_tokens, begun)
                yield _item(kind, REQUESTS, example, wanted)

    def _dialogues(
        self, examples: Iterable[HeldOut], make: Callable
    ) -> Iterator[tuple[HeldOut, DialogueJson]]:
        """One dialogue per clip that has one; the clip's place decides the draw."""
        for place, example in enumerate(examples):
            try:
                yield example, make(example.clip, np.random.default_rng([self._sizes.seed, place]))
            except QuestionError:
                continue

    def prepare(self, replies: Sequence[tuple[Item, Reply]]) -> None:
        """Has all sounds captioned."""
        self._heard, self._missing = hearing.captions(self._tools, hearing.made(replies))

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """Whether an answer is right; fact by fact, whether the caption before it, or that of the sound, tells it."""
        kind, example = item.record["kind"], self._examples[item.record["clip"]]
        if kind in ("question", "deaf", "told"):
            answer = questions.final_answer(reply.text)
            right = Verdict(float(right_answer(answer, item.record["answer"])), answer)
            if kind != "question":
                return {f"answers_{kind}": right}
            return {"answers": right} | hearing.facts_told(
                questions.before_thought(reply.text), example, "sft_"
            )
        heard = self._heard.get(item.id)
        prefix = "" if kind == "request" else "told_"
        found = {} if heard is None else hearing.facts_told(heard, example, f"{prefix}request_audio_")
        if kind == "request":
            found |= hearing.facts_told(questions.final_answer(reply.text), example, "request_caption_")
        return found

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """The table of answers, of answers by topic, and of requests."""
        kinds: dict[str, list[Judged]] = {}
        for each in judged:
            kinds.setdefault(each.item.record["kind"], []).append(each)
        return [*self._answers(kinds), *self._sounds(kinds)]

    def _answers(self, kinds: Mapping[str, list[Judged]]) -> list[Score]:
        asked = kinds.get("question", [])
        if not asked:
            return []
        pairs = [(each.item.record["topic"], each.item.record["answer"]) for each in asked]
        training = [(q.topic, q.answer) for clip in self._corpus.training for q in _questions_of(clip)]
        given = (
            [questions.final_answer(_said(each)) for each in asked], pairs, training,
            _control(kinds.get("deaf"), asked), _control(kinds.get("told"), asked),
        )  # fmt: skip
        captions = [questions.before_thought(_said(each)) for each in asked]
        return [
            *hearing.in_section(QUESTIONS, [answer_score(*given)]),
            *hearing.scored(QUESTIONS, captions, self._of(asked), self._corpus.training_truth, "sft_"),
            *hearing.in_section(TOPICS, answers_by_topic(*given)),
        ]

    def _sounds(self, kinds: Mapping[str, list[Judged]]) -> list[Score]:
        asked = kinds.get("request", [])
        if not asked:
            return []
        if all(each.reply.fault for each in asked):
            return [hearing.nothing(REQUESTS, "request_caption_kinds_in_order", asked)]
        examples, training = self._of(asked), self._corpus.training_truth
        planned = [questions.final_answer(_said(each)) for each in asked]
        found = hearing.scored(REQUESTS, planned, examples, training, "request_caption_")
        if not self._heard:
            return [*found, hearing.nothing(REQUESTS, "request_audio_kinds_in_order", asked, self._missing)]
        heard = [self._heard.get(each.item.id, "") for each in asked]
        told = {each.item.record["clip"]: each for each in kinds.get("told_request", ())}
        best = [told.get(example.clip.id) for example in examples]
        ceiling = None
        if all(each is not None and not _cannot(each) for each in best):
            ceiling = [self._heard.get(each.item.id, "") for each in best if each is not None]
        return found + hearing.scored(REQUESTS, heard, examples, training, "request_audio_", ceiling)

    def _of(self, judged: Sequence[Judged]) -> list[HeldOut]:
        return [self._examples[each.item.record["clip"]] for each in judged]


def _item(kind: str, section: str, example: HeldOut, asked: Asked, **further: str) -> Item:
    clip = example.clip
    record = {"kind": kind, "clip": clip.id, "domain": clip.domain, "caption": clip.caption, **further}
    groups = {"section": section, "asked": kind}
    if kind == "question":
        groups["topic"] = further["topic"]
    return Item(f"{kind}_{clip.id}", asked, record, groups, cluster=clip.id)


def _control(judged: Sequence[Judged] | None, asked: Sequence[Judged]) -> list[str] | None:
    """The answers of a control in the order of the questions; None where it could not be asked."""
    found = {each.item.record["clip"]: each for each in judged or ()}
    if len(found) < len(asked) or any(map(_cannot, found.values())):
        return None
    return [questions.final_answer(_said(found[each.item.record["clip"]])) for each in asked]


def _cannot(judged: Judged) -> bool:
    return judged.reply.fault == "cannot_begin"


def _said(judged: Judged) -> str:
    return "" if judged.reply.fault else judged.reply.text


def _questions_of(clip: Clip) -> list[questions.Question]:
    return questions.questions(AudioAnnotation.from_json(clip.annotation)) if clip.annotation else []
