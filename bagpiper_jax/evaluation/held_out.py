"""The clips that a model is scored on, and what is true of them."""

import dataclasses
import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.audio import AudioError
from bagpiper_jax.captions import AudioAnnotation, ParsedCaption, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.errors import Explained
from bagpiper_jax.manifest import Clip, read_manifest

_log = logging.getLogger(__name__)


class EvaluationError(Explained, ValueError):
    """A corpus or run that cannot be evaluated; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """One clip with its 16 kHz waveform and the facts its captions are scored against."""

    clip: Clip
    waveform: Float32[np.ndarray, " samples"]
    truth: ParsedCaption


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What evaluation needs of a corpus.

    Attributes:
        held_out: captioned clips of the split to score.
        training: captioned clips of the training split, which the baselines are counted on; no waveforms.
    """

    held_out: tuple[HeldOut, ...]
    training: tuple[Clip, ...]

    def first(self, count: int) -> "Corpus":
        """The same with at most `count` clips to score."""
        return dataclasses.replace(self, held_out=self.held_out[:count])

    @property
    def truth(self) -> list[ParsedCaption]:
        return [example.truth for example in self.held_out]

    @property
    def training_truth(self) -> list[ParsedCaption]:
        return [truth_of(clip) for clip in self.training]


def read_corpus(directory: str, split: str, limit: int) -> Corpus:
    """Reads at most `limit` captioned clips of `split`, and all training clips without their audio.

    The clips come in an order that only their ids decide, so that any first part of them is a fair sample: manifests
    are sorted by source. Clips whose audio cannot be used are left out with a warning.

    Raises:
        EvaluationError: nothing to score, or no training clips to count baselines on.
    """
    clips = [clip for clip in read_manifest(directory) if clip.audio and clip.caption]
    shuffled = sorted((clip for clip in clips if clip.split == split), key=_by_hash)
    held_out = list(_opened(directory, shuffled, limit))
    training = tuple(clip for clip in clips if clip.split == "train")
    if not held_out or not training:
        raise EvaluationError(
            f"{directory} has {len(held_out)} usable captioned clips in split {split!r} and {len(training)} in "
            "'train'; both are needed, see build_corpus"
        )
    return Corpus(tuple(held_out), training)


def _by_hash(clip: Clip) -> bytes:
    return hashlib.sha256(clip.id.encode()).digest()


def truth_of(clip: Clip) -> ParsedCaption:
    """The facts of a clip: of its annotation, else as its caption tells them."""
    if clip.annotation is not None:
        return facts(AudioAnnotation.from_json(clip.annotation))
    return parse_caption(clip.caption or "")


def _opened(directory: str, clips: Iterable[Clip], limit: int):
    count = 0
    for clip in clips:
        if count == limit:
            return
        try:
            waveform = audio.read(Path(directory) / clip.audio)
        except AudioError as error:
            _log.warning("clip %s is left out: %s", clip.id, error)
            continue
        count += 1
        yield HeldOut(clip, waveform, truth_of(clip))
