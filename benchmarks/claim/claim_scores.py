"""What a run of benchmarks/claim is scored on: one record for every question, request or clip, with its verdict.

Every function takes a generator and held-out clips and returns records of plain values; `clip` names the cluster that
intervals are drawn by. Nothing is left out: a reply without an answer is a wrong answer.
"""

import dataclasses
from collections.abc import Sequence

import claim_forms
import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.captions import parse_caption
from bagpiper_jax.corpora.questions import REQUEST_STYLES, final_answer, planning_dialogue
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.scenes.agreement import right_answer, rotated
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import HeldOut
from bagpiper_jax.evaluation.metrics.caption_agreement import common_in_order
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.segments import LoopConfig

ROWS = 64
_SILENCE = np.zeros(1600, np.float32)

ANSWER_IN = {
    "answer": lambda reply: reply,
    "caption_answer": lambda reply: reply.rpartition("\n\n")[2],
    "foreign_caption_answer": lambda reply: reply.rpartition("\n\n")[2],
    "answer_caption": lambda reply: reply.partition("\n\n")[0],
    "caption_reasoning_answer": final_answer,
}
"""Form → where the answer stands in a reply."""

_AFTER_CAPTION = {"caption_answer", "foreign_caption_answer", "caption_reasoning_answer"}


def score_questions(
    generator: Generator, clips: Sequence[HeldOut], loop: LoopConfig, form: str
) -> list[dict]:
    """Every question about every clip, of topics that training asked and that it did not.

    Three replies to each: about the clip, about its neighbour (deaf), and begun with the true caption (told), where the
    form has the caption first.
    """
    asked = [
        (place, topic, dialogue)
        for place, example in enumerate(clips)
        for topic, dialogue in claim_forms.dialogues(
            example.clip, np.random.default_rng(place), claim_forms.SEEN + claim_forms.UNSEEN
        )
    ]
    texts = [dialogue[1][2] for _, _, dialogue in asked]
    sounds = _sounds(clips)
    heard = [sounds[place] for place, _, _ in asked]
    others = rotated(sounds)
    replies = _written(generator, heard, texts, loop)
    deaf = _written(generator, [others[place] for place, _, _ in asked], texts, loop)
    told = [None] * len(asked)
    if form in _AFTER_CAPTION:
        begun = [claim_forms.caption_part(dialogue[2][2]) for _, _, dialogue in asked]
        told = _written(generator, heard, texts, loop, begun)
    answer = ANSWER_IN[form]
    records = []
    for (place, topic, dialogue), reply, unheard, best in zip(asked, replies, deaf, told, strict=True):
        true = final_answer(dialogue[2][2])
        records.append({
            "clip": clips[place].clip.id, "topic": topic, "seen": topic in claim_forms.SEEN,
            "question": dialogue[1][2], "truth": true, "reply": reply,
            "right": right_answer(answer(reply), true), "deaf": right_answer(answer(unheard), true),
            "told": None if best is None else right_answer(answer(best), true),
        })  # fmt: skip
    return records


def score_captions(generator: Generator, clips: Sequence[HeldOut], loop: LoopConfig) -> list[dict]:
    """Audio → caption: kinds in order."""
    said = _written(generator, _sounds(clips), None, loop)
    return [_captioned(example, text) for example, text in zip(clips, said, strict=True)]


def score_sounds(
    generator: Generator, clips: Sequence[HeldOut], loop: LoopConfig, listener: Generator
) -> list[dict]:
    """Caption → audio, as the listener hears it."""
    prompts = [[Message("user", "text", example.clip.caption)] for example in clips]
    return _sounded(generator, clips, prompts, loop, ("audio",), listener)


def score_requests(
    generator: Generator, clips: Sequence[HeldOut], loop: LoopConfig, listener: Generator, form: str
) -> list[dict]:
    """Request → audio, as the listener hears it; both styles of every clip."""
    twice = [example for example in clips for _ in REQUEST_STYLES]
    prompts = [
        [Message(*planning_dialogue(example.clip, np.random.default_rng(place), style)[0])]
        for place, example in enumerate(clips)
        for style in REQUEST_STYLES
    ]
    modalities = ("audio",) if form == "request_audio" else ("text", "audio")
    return _sounded(generator, twice, prompts, loop, modalities, listener)


def _sounds(clips: Sequence[HeldOut]) -> list[np.ndarray]:
    return [audio.read(example.path) for example in clips]


def _sounded(generator, clips, prompts, loop, modalities, listener) -> list[dict]:
    wanted = dataclasses.replace(loop, modalities=modalities, max_segments=len(modalities))
    sounds = [reply.audio for reply in generator.reply(prompts, wanted, ROWS)]
    audible = [_SILENCE if s is None or len(s) < len(_SILENCE) else s for s in sounds]
    heard = _written(listener, audible, None, loop)
    return [
        {"request": prompt[0].content} | _captioned(example, text)
        for example, prompt, text in zip(clips, prompts, heard, strict=True)
    ]


def _captioned(example: HeldOut, text: str) -> dict:
    heard, true = parse_caption(text), example.truth
    return {
        "clip": example.clip.id, "truth": example.clip.caption, "reply": text,
        "right": heard.kinds == true.kinds,
        "words_right": common_in_order(heard.words, true.words), "words": len(true.words),
    }  # fmt: skip


def _written(
    generator: Generator,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str] | None,
    loop: LoopConfig,
    begun: Sequence[str] | None = None,
) -> list[str]:
    """The text that is said of each waveform."""
    prompts = [[Message("user", "audio", waveform)] for waveform in waveforms]
    if texts is not None:
        prompts = [
            [*prompt, Message("user", "text", text)] for prompt, text in zip(prompts, texts, strict=True)
        ]
    wanted = dataclasses.replace(loop, modalities=("text",), max_segments=1)
    return [reply.text for reply in generator.reply(prompts, wanted, ROWS, begun)]
