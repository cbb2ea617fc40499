"""The forms of dialogue that benchmarks/claim compares, as SeqIO tasks over the embedded corpus.

One question, one clip, and five replies: the answer alone; with the clip's caption before it, or behind it; with the
caption of another clip before it; with caption and reasoning, as the release is tuned. One request, and two replies:
the sound alone, or a caption and then the sound. And labels in the place of captions, for pretraining.

Questions of `UNSEEN` topics are never asked about a sound in training, whatever the form. Pretraining asks them about
captions, in text alone, as a language model brings along how to read.
"""

import functools
import hashlib
from collections.abc import Iterator

import numpy as np
import seqio

from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.captions.prose import kind
from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip, read_manifest
from tasks import settings
from tasks.mixtures import add_task
from tasks.preprocessors import NotApplicable, Variants
from tasks.simulated import annotated, requests, simulated

CORPUS = "embedded"
SEEN = ("first", "order", "words", "instrument", "music")
UNSEEN = ("last", "count", "key", "tempo", "speech")
FEW = 16
"""Of the few examples, one clip in so many is taken."""

LABELS_LEAD = "Labels of the audio: "
_LABELLED = ("music", "speech", "instrument")
"""Topics of the questions that labels answer: no order, no words, no count."""


def dialogues(clip: Clip, rng: np.random.Generator, topics: tuple[str, ...]) -> Iterator[tuple[str, list]]:
    """(topic, [user audio, user question, assistant caption + reasoning + answer]) of every question of the topics."""
    made = simulated(questions.understanding_dialogues, annotated(clip), rng)
    asked = questions.questions(AudioAnnotation.from_json(clip.annotation))
    for question, dialogue in zip(asked, made, strict=True):
        if question.topic in topics:
            yield question.topic, dialogue


def caption_part(reply: str) -> str:
    """What stands before a reply's reasoning, blanks and all: the caption and its lead."""
    return questions.before_thought(reply)


def _answer(clip: Clip, reply: str, rng: np.random.Generator) -> str:
    return questions.final_answer(reply)


def _caption_answer(clip: Clip, reply: str, rng: np.random.Generator) -> str:
    return caption_part(reply) + questions.final_answer(reply)


def _answer_caption(clip: Clip, reply: str, rng: np.random.Generator) -> str:
    return f"{questions.final_answer(reply)}\n\n{caption_part(reply).strip()}"


def _foreign_caption_answer(clip: Clip, reply: str, rng: np.random.Generator) -> str:
    others = _captions(str(settings.current().corpus_directory(CORPUS)), clip.split)
    other = clip.caption
    while other == clip.caption:
        other = others[rng.integers(len(others))]
    return f"{questions.CAPTION_LEAD}{other}\n\n{questions.final_answer(reply)}"


def _reasoned(clip: Clip, reply: str, rng: np.random.Generator) -> str:
    return reply


REPLIES = {
    "answer": _answer,
    "caption_answer": _caption_answer,
    "answer_caption": _answer_caption,
    "foreign_caption_answer": _foreign_caption_answer,
    "caption_reasoning_answer": _reasoned,
}
"""Form → (clip, the full reply, rng) → the reply in that form."""


@functools.cache
def _captions(directory: str, split: str) -> list[str]:
    return [clip.caption for clip in read_manifest(directory) if clip.split == split and clip.caption]


def understanding(clip: Clip, rng: np.random.Generator, form: str, few: bool = False) -> Variants:
    """Audio and question → reply in a form; a variant for each question of a seen topic."""
    if few and int(hashlib.sha256(clip.id.encode()).hexdigest(), 16) % FEW:
        raise NotApplicable("not_among_the_few")
    found = [
        [*dialogue[:2], ["assistant", "text", REPLIES[form](clip, dialogue[2][2], rng)]]
        for _, dialogue in dialogues(clip, rng, SEEN)
    ]
    if not found:
        raise NotApplicable("nothing_to_ask")
    return Variants(*found)


def request_caption_audio(clip: Clip, rng: np.random.Generator) -> Variants:
    """Request → caption → sound, without reasoning; variants in several wordings."""
    return Variants(*(
        [request, ["assistant", "text", clip.caption], sound]
        for request, _, sound in requests(questions.generation_dialogue, clip, rng)
    ))  # fmt: skip


def request_audio(clip: Clip, rng: np.random.Generator) -> Variants:
    """Request → sound."""
    return Variants(
        *([request, sound] for request, _, sound in requests(questions.generation_dialogue, clip, rng))
    )


def labels(clip: Clip) -> str:
    """The kinds of a clip's events, each once, in no order but the alphabet's."""
    annotation = AudioAnnotation.from_json(annotated(clip).annotation)
    return LABELS_LEAD + ", ".join(sorted({kind(event) for event in annotation.events()})) + "."


def audio_to_labels(clip: Clip, rng: np.random.Generator) -> list:
    """What audio_to_caption is, with labels."""
    return [["user", "audio", clip.id], ["assistant", "text", labels(clip)]]


def labels_to_audio(clip: Clip, rng: np.random.Generator) -> list:
    """What caption_to_audio is, with labels."""
    return [["user", "text", labels(clip)], ["assistant", "audio", clip.id]]


def labels_to_answer(clip: Clip, rng: np.random.Generator) -> Variants:
    """What caption_to_answer is, with labels: the questions that they answer."""
    found = [
        [dialogue[1], ["user", "text", labels(clip)], ["assistant", "text", questions.final_answer(dialogue[2][2])]]
        for _, dialogue in dialogues(clip, rng, _LABELLED)
    ]  # fmt: skip
    if not found:
        raise NotApplicable("nothing_to_ask")
    return Variants(*found)


for _form in REPLIES:
    add_task(f"claim_{_form}", CORPUS, functools.partial(understanding, form=_form))
    add_task(f"claim_{_form}_few", CORPUS, functools.partial(understanding, form=_form, few=True))
for _author in (request_audio, request_caption_audio, audio_to_labels, labels_to_audio, labels_to_answer):
    add_task(f"claim_{_author.__name__}", CORPUS, _author)

_LABELS = {"claim_labels_to_audio": 2.5, "claim_audio_to_labels": 1.2, "claim_labels_to_answer": 0.3}
_UNIFIED = ("embedded_audio_to_caption", "embedded_caption_to_audio", "claim_caption_answer")
seqio.MixtureRegistry.add("claim_pretraining_with_labels", list(_LABELS.items()))
seqio.MixtureRegistry.add("claim_unified", [(name, 1.0) for name in _UNIFIED])
