"""All text that a corpus teaches, for learning a tokenizer on it."""

from collections.abc import Iterator

import numpy as np

from bagpiper_jax.captions import AnnotationError
from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip, read_manifest

_DIALOGUES = (questions.understanding_dialogue, questions.generation_dialogue)


def training_texts(directory: str) -> Iterator[str]:
    """Captions, documents and one tuning dialogue of each kind per training clip, in manifest order."""
    for index, clip in enumerate(read_manifest(directory)):
        if clip.split == "train":
            yield from (text for text in (clip.caption, clip.text) if text)
            yield from _dialogue_texts(clip, np.random.default_rng(index))


def _dialogue_texts(clip: Clip, rng: np.random.Generator) -> Iterator[str]:
    for messages in [clip.dialogue] if clip.dialogue else _simulated(clip, rng):
        yield from (content for _, modality, content in messages if modality == "text")


def _simulated(clip: Clip, rng: np.random.Generator) -> Iterator[list]:
    if clip.annotation is None or clip.audio is None:
        return
    for make in _DIALOGUES:
        try:
            yield make(clip, rng)
        except (questions.QuestionError, AnnotationError):
            continue  # the cache job counts these with their reason
