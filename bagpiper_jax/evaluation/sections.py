"""What is measured: one function per direction of the model, each returning scores and what the model said."""

import dataclasses
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
from bagpiper_jax.evaluation.scores import Score, answer_score, caption_scores, final_answer
from bagpiper_jax.generation.loop import LoopConfig
from bagpiper_jax.generation.replies import Generator, Reply

Scores = dict[str, Score]
_SILENCE = np.zeros(1600, np.float32)


def captions(generator: Generator, waveforms: Sequence[np.ndarray], loop: LoopConfig, rows: int) -> list[str]:
    """The model's caption of each waveform."""
    asked = [[Message("user", "audio", waveform)] for waveform in waveforms]
    return [reply.text for reply in generator.reply(asked, _only(loop, "text"), rows)]


def captioning(generator: Generator, corpus: Corpus, loop: LoopConfig, rows: int) -> tuple[Scores, list[str]]:
    """Audio → caption."""
    said = captions(generator, [example.waveform for example in corpus.held_out], loop, rows)
    return caption_scores(_parsed(said), corpus.truth, corpus.training_truth), said


def sounding(
    generator: Generator, corpus: Corpus, loop: LoopConfig, rows: int
) -> tuple[Scores, list[Reply], list[str]]:
    """Caption → audio, and back: does the model hear in its own audio what the caption asked for?"""
    asked = [[Message("user", "text", example.clip.caption)] for example in corpus.held_out]
    sounded = generator.reply(asked, _only(loop, "audio"), rows)
    heard = captions(generator, [_audible(reply) for reply in sounded], loop, rows)
    scores = caption_scores(_parsed(heard), corpus.truth, corpus.training_truth, "cycle_")
    return scores | _likeness(corpus.held_out, sounded), sounded, heard


def _likeness(examples: Sequence[HeldOut], sounded: Sequence[Reply]) -> Scores:
    """Spectral and duration differences to the true clip, beside those of another held-out clip."""
    true = [example.waveform for example in examples]
    ours, others = [_audible(reply) for reply in sounded], [*true[1:], *true[:1]]
    return {
        "generated_mel_distance": _paired(
            mel_distance, true, ours, others, "dB between the generated and the true clip; baseline: another clip"
        ),
        "generated_duration_error": _paired(
            lambda a, b: abs(len(a) - len(b)) / SAMPLE_RATE, true, ours, others,
            "seconds by which the generated clip is too long or too short; baseline: another clip",
        ),
    }  # fmt: skip


def codec(generator: Generator, corpus: Corpus) -> tuple[Scores, dict, list[np.ndarray]]:
    """Audio through the codec and back: the ceiling of all generated audio."""
    true = [example.waveform for example in corpus.held_out]
    through = generator.codec
    codes = through.encode(true)
    rebuilt = through.decode(codes)
    others = [*true[1:], *true[:1]]
    scores = {
        "codec_mel_distance": _paired(
            mel_distance,
            true,
            rebuilt,
            others,
            "dB between a clip and its codec copy; baseline: another clip",
        )
    }
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
) -> tuple[Scores, list[dict]]:
    """Audio and question → caption, reasoning, answer (docs/reference.md, Tuning dialogues)."""
    asked = list(_dialogues(corpus.held_out, seed, questions.understanding_dialogue))
    prompts = [
        [Message("user", "audio", example.waveform), Message("user", "text", dialogue[1][2])]
        for example, dialogue in asked
    ]
    if not prompts:
        return {}, []
    replies = generator.reply(prompts, _only(loop, "text"), rows)
    answers = [final_answer(reply.text) for reply in replies]
    pairs = [(dialogue[1][2], final_answer(dialogue[2][2])) for _, dialogue in asked]
    annotations = (AudioAnnotation.from_json(clip.annotation) for clip in corpus.training if clip.annotation)
    training = ((q.question, q.answer) for annotation in annotations for q in questions.questions(annotation))
    described = _parsed(reply.text.partition("<think>")[0] for reply in replies)
    scores = {"answers": answer_score(answers, pairs, training)} | caption_scores(
        described, _truth([example for example, _ in asked]), corpus.training_truth, "sft_"
    )
    return scores, [
        {"id": example.clip.id, "question": question, "answer": answer, "truth": true, "reply": reply.text}
        for (example, _), (question, true), answer, reply in zip(asked, pairs, answers, replies, strict=True)
    ]


def requests(
    generator: Generator,
    listener: Generator,
    corpus: Corpus,
    loop: LoopConfig,
    rows: int,
    system_prompt: str,
    seed: int,
) -> tuple[Scores, list[dict]]:
    """Request → reasoning, caption, audio; `listener` says what it hears in that audio."""

    def make(clip, rng):
        return questions.generation_dialogue(clip, rng, system_prompt)

    asked = list(_dialogues(corpus.held_out, seed, make))
    if not asked:
        return {}, []
    prompts = [[Message(*m) for m in dialogue if m[0] != "assistant"] for _, dialogue in asked]
    both = dataclasses.replace(loop, modalities=("text", "audio"), max_segments=2)
    replies = generator.reply(prompts, both, rows)
    planned = [final_answer(reply.text) for reply in replies]
    heard = captions(listener, [_audible(reply) for reply in replies], loop, rows)
    truth, training = _truth([example for example, _ in asked]), corpus.training_truth
    scores = caption_scores(_parsed(planned), truth, training, "request_caption_")
    scores |= caption_scores(_parsed(heard), truth, training, "request_audio_")
    return scores, [
        {
            "id": example.clip.id,
            "request": prompt[-1].content,
            "reply": reply.text,
            "heard": said,
            "audio": reply.audio,
        }
        for (example, _), prompt, reply, said in zip(asked, prompts, replies, heard, strict=True)
    ]


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


def _paired(measure: Callable, true: Sequence, ours: Sequence, others: Sequence, note: str) -> Score:
    found = _finite([measure(a, b) for a, b in zip(true, ours, strict=True)])
    base = _finite([measure(a, b) for a, b in zip(true, others, strict=True)])
    mean = float(np.mean(found)) if found else float("nan")
    return Score(
        mean, len(found), float(np.mean(base)) if base else None,
        higher_is_better=False, is_share=False, note=note,
    )  # fmt: skip


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
