"""What is measured: one function per direction of the model, each returning scores and what the model said."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.captions import AudioAnnotation, ParsedCaption, parse_caption
from bagpiper_jax.corpora import questions
from bagpiper_jax.corpora.questions import QuestionError
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.acoustics import codebook_use, mel_distance, stoi
from bagpiper_jax.evaluation.held_out import Corpus, HeldOut
from bagpiper_jax.evaluation.scores import (
    Score,
    answer_score,
    answers_by_topic,
    caption_scores,
    right_answer,
    rotated,
)
from bagpiper_jax.generation.replies import Generator, Reply
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.manifest import Clip

Scores = dict[str, Score]
_SILENCE = np.zeros(1600, np.float32)


def captions(generator: Generator, waveforms: Sequence[np.ndarray], loop: LoopConfig, rows: int) -> list[str]:
    """The model's caption of each waveform."""
    asked = [[Message("user", "audio", waveform)] for waveform in waveforms]
    return [reply.text for reply in generator.reply(asked, _only(loop, "text"), rows)]


def captioning(generator: Generator, corpus: Corpus, loop: LoopConfig, rows: int) -> tuple[Scores, list[str]]:
    """Audio → caption. The ceiling is a caption without fault: there is nothing to measure."""
    said = captions(generator, [example.waveform for example in corpus.held_out], loop, rows)
    return caption_scores(_parsed(said), corpus.truth, corpus.training_truth), said


def sounding(
    generator: Generator, corpus: Corpus, copies: Sequence[np.ndarray], loop: LoopConfig, rows: int
) -> tuple[Scores, list[Reply], list[str]]:
    """Caption → audio, and back: does the model hear in its own audio what the caption asked for?

    Nothing that is made of codes can be heard better than the clips' own codes: the ceiling is what the model hears in
    `copies`, which `codec` made of the clips.
    """
    asked = [[Message("user", "text", example.clip.caption)] for example in corpus.held_out]
    sounded = generator.reply(asked, _only(loop, "audio"), rows)
    heard = captions(generator, [*map(_audible, sounded), *copies], loop, rows)
    heard, best = heard[: len(sounded)], heard[len(sounded) :]
    scores = caption_scores(_parsed(heard), corpus.truth, corpus.training_truth, "cycle_", _parsed(best))
    return scores | _likeness(corpus.held_out, sounded, copies), sounded, heard


def _likeness(examples: Sequence[HeldOut], sounded: Sequence[Reply], copies: Sequence[np.ndarray]) -> Scores:
    """Spectral and duration differences to the true clip, beside those of another held-out clip."""
    true, ours = [example.waveform for example in examples], [_audible(reply) for reply in sounded]
    return {
        "generated_mel_distance": _paired(
            mel_distance, true, ours, "dB between the generated and the true clip; baseline: another clip",
            rotated(ours), copies,
        ),
        "generated_duration_error": _paired(
            lambda a, b: abs(len(a) - len(b)) / SAMPLE_RATE, true, ours,
            "seconds by which the generated clip is too long or too short; baseline: another clip",
            rotated(ours), copies,
        ),
    }  # fmt: skip


def codec(generator: Generator, corpus: Corpus) -> tuple[Scores, dict, list[np.ndarray]]:
    """Audio through the codec and back: the ceiling of all generated audio."""
    true = [example.waveform for example in corpus.held_out]
    through = generator.codec
    codes = through.encode(true)
    rebuilt = through.decode(codes)
    note = "dB between a clip and its codec copy; baseline: another clip"
    scores = {"codec_mel_distance": _paired(mel_distance, true, rebuilt, note)}
    spoken = [i for i, example in enumerate(corpus.held_out) if example.truth.words]
    values = [stoi(true[i], rebuilt[i]) for i in spoken]
    if kept := _finite(values):
        note = "STOI, 0 to 1, of clips with speech through the codec"
        scores["codec_stoi"] = Score(float(np.mean(kept)), len(kept), is_share=False, note=note)
    details = {
        "codebooks": codebook_use(codes, max(through.codebooks)),
        "bits_per_second": sum(map(math.log2, through.codebooks)) * through.sample_rate / through.hop,
    }
    return scores, details, rebuilt


def understanding(
    generator: Generator, corpus: Corpus, loop: LoopConfig, rows: int, seed: int
) -> tuple[Scores, Scores, list[dict]]:
    """Audio and question → caption, reasoning, answer (docs/reference.md, Tuning dialogues).

    The deaf model is asked the same about another clip; at the ceiling the reply begins with the true caption.

    Returns:
        the scores, those of the answers by topic, and the dialogues.
    """
    asked = list(_dialogues(corpus.held_out, seed, questions.understanding_dialogue))
    if not asked:
        return {}, {}, []
    heard = [example.waveform for example, _ in asked]
    texts, true_replies = [d[1][2] for _, d in asked], [d[2][2] for _, d in asked]
    replies, deaf, told = _three_ways(generator, heard, texts, _captions_in(true_replies), loop, rows)
    answers, blind, best = (_answers(found) for found in (replies, deaf, told))
    topics = [_topics(example.clip)[text] for (example, _), text in zip(asked, texts, strict=True)]
    pairs = list(zip(topics, _answers(true_replies), strict=True))
    training = [(q.topic, q.answer) for clip in corpus.training for q in _questions(clip)]
    scores = {"answers": answer_score(answers, pairs, training, blind, best)} | caption_scores(
        _parsed(_captions_in(replies)), _truth(e for e, _ in asked), corpus.training_truth, "sft_"
    )
    return scores, answers_by_topic(answers, pairs, training, blind, best), [
        {
            "id": asked[i][0].clip.id, "topic": topic, "question": texts[i], "audio": heard[i],
            "reply": replies[i], "answer": answers[i], "truth": true, "right": right_answer(answers[i], true),
            "deaf_answer": blind[i] if blind else None, "ceiling_answer": best[i],
        }
        for i, (topic, true) in enumerate(pairs)
    ]  # fmt: skip


def _three_ways(
    generator: Generator,
    heard: list[np.ndarray],
    texts: list[str],
    told: list[str],
    loop: LoopConfig,
    rows: int,
) -> tuple[list[str], list[str], list[str]]:
    """Replies to questions about each clip, about its neighbour, and begun with what is `told`.

    All in one list, so that they share their compiled steps; of a single clip there is no neighbour.
    """
    count, others = len(heard), rotated(heard) or []
    clips = [*heard, *heard, *others]
    prompts = [
        [Message("user", "audio", clip), Message("user", "text", text)]
        for clip, text in zip(clips, itertools.cycle(texts), strict=False)
    ]
    begun = ["" if place // count != 1 else told[place - count] for place in range(len(prompts))]
    found = [reply.text for reply in generator.reply(prompts, _only(loop, "text"), rows, begun)]
    return found[:count], found[2 * count :], found[count : 2 * count]


def _captions_in(replies: Iterable[str]) -> list[str]:
    return [questions.before_thought(reply) for reply in replies]


def _answers(replies: Iterable[str]) -> list[str]:
    return [questions.final_answer(reply) for reply in replies]


def _questions(clip: Clip) -> list[questions.Question]:
    return questions.questions(AudioAnnotation.from_json(clip.annotation)) if clip.annotation else []


def _topics(clip: Clip) -> dict[str, str]:
    """Question → its topic."""
    return {question.question: question.topic for question in _questions(clip)}


def requests(
    generator: Generator,
    listener: Generator,
    corpus: Corpus,
    loop: LoopConfig,
    rows: int,
    system_prompt: str,
    seed: int,
) -> tuple[Scores, list[dict]]:
    """Request → reasoning, caption, audio; `listener` says what it hears in that audio.

    At the ceiling of the audio the reply begins with the true reasoning and caption.
    """

    def make(clip, rng):
        return questions.generation_dialogue(clip, rng, system_prompt)

    asked = list(_dialogues(corpus.held_out, seed, make))
    if not asked:
        return {}, []
    count, examples = len(asked), [example for example, _ in asked]
    prompts = [[Message(*m) for m in dialogue if m[0] != "assistant"] for _, dialogue in asked]
    told = [next(text for role, _, text in dialogue if role == "assistant") for _, dialogue in asked]
    both = dataclasses.replace(loop, modalities=("text", "audio"), max_segments=2)
    # Together, so that they share their compiled steps.
    replies = generator.reply([*prompts, *prompts], both, rows, [*[""] * count, *told])
    heard = captions(listener, [_audible(reply) for reply in replies], loop, rows)
    replies, heard, best = replies[:count], heard[:count], heard[count:]
    planned = _answers(reply.text for reply in replies)
    truth, training = _truth(examples), corpus.training_truth
    scores = caption_scores(_parsed(planned), truth, training, "request_caption_")
    scores |= caption_scores(_parsed(heard), truth, training, "request_audio_", _parsed(best))
    caption_right, audio_right = kinds_right(planned, examples), kinds_right(heard, examples)
    return scores, [
        {
            "id": example.clip.id, "request": prompts[i][-1].content, "reply": replies[i].text,
            "truth": example.clip.caption, "caption": planned[i], "caption_right": caption_right[i],
            "heard": heard[i], "audio_right": audio_right[i], "audio": replies[i].audio,
        }
        for i, example in enumerate(examples)
    ]  # fmt: skip


def kinds_right(texts: Iterable[str], examples: Iterable[HeldOut]) -> list[bool]:
    """Whether each caption names the kinds of its clip's events, in order."""
    return [parse_caption(t).kinds == e.truth.kinds for t, e in zip(texts, examples, strict=True)]


def _dialogues(examples: Iterable[HeldOut], seed: int, make: Callable):
    """One dialogue per clip that has one; the clip's place decides the draw."""
    for place, example in enumerate(examples):
        try:
            yield example, make(example.clip, np.random.default_rng([seed, place]))
        except QuestionError:
            continue


def _only(loop: LoopConfig, modality: str) -> LoopConfig:
    return dataclasses.replace(loop, modalities=(modality,), max_segments=1)


def _audible(reply: Reply) -> np.ndarray:
    """The reply's audio; a moment of silence where it holds no whole frame."""
    return _SILENCE if reply.audio is None or len(reply.audio) < len(_SILENCE) else reply.audio


def _parsed(texts: Iterable[str]) -> list[ParsedCaption]:
    return [parse_caption(text) for text in texts]


def _truth(examples: Iterable[HeldOut]) -> list[ParsedCaption]:
    return [example.truth for example in examples]


def _paired(
    measure: Callable,
    true: Sequence,
    ours: Sequence,
    note: str,
    deaf: Sequence | None = None,
    ceiling: Sequence | None = None,
) -> Score:
    """The mean of a distance, and that of the controls; the baseline is the distance of another true clip."""

    def mean(found: Sequence[float]) -> float | None:
        return float(np.mean(found)) if found else None

    def distances(others: Sequence | None) -> list[float]:
        return _finite(measure(a, b) for a, b in zip(true, others or (), strict=others is not None))

    found, controls = distances(ours), [mean(distances(x)) for x in (rotated(true), deaf, ceiling)]
    return Score(
        mean(found) if found else float("nan"), len(found), controls[0], deaf=controls[1], ceiling=controls[2],
        higher_is_better=False, is_share=False, note=note,
    )  # fmt: skip


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
