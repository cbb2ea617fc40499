"""The clips that a model is scored on, and what is true of them."""

import dataclasses
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
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
        training_truth: what is true of each of them.
    """

    held_out: tuple[HeldOut, ...]
    training: tuple[Clip, ...]
    training_truth: tuple[ParsedCaption, ...]

    def first(self, count: int) -> "Corpus":
        """The same with at most `count` clips to score."""
        return dataclasses.replace(self, held_out=self.held_out[:count])

    @property
    def truth(self) -> list[ParsedCaption]:
        return [example.truth for example in self.held_out]


def read_corpus(directory: str, split: str, limit: int) -> Corpus:
    """Reads at most `limit` captioned clips of `split`, and all training clips without their audio.

    The clips come in an order that only their ids decide, so that any first part of them is a fair sample: manifests
    are sorted by source. Clips whose audio or annotation cannot be used are left out, and counted by the reason.

    Raises:
        EvaluationError: nothing to score, or no training clips to count baselines on.
    """
    clips = [clip for clip in read_manifest(directory) if clip.audio and clip.caption]
    shuffled = sorted((clip for clip in clips if clip.split == split), key=_by_hash)
    left_out: Counter[str] = Counter()
    held_out = list(itertools.islice(_opened(directory, shuffled, left_out), limit))
    training = list(_known(clips, left_out))
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        _log.warning("%s: clips left out: %s", directory, counts)
    if not held_out or not training:
        raise EvaluationError(
            f"{directory} has {len(held_out)} usable captioned clips in split {split!r} and {len(training)} in "
            "'train'; both are needed, see build_corpus"
        )
    return Corpus(tuple(held_out), *map(tuple, zip(*training, strict=True)))


def _by_hash(clip: Clip) -> bytes:
    return hashlib.sha256(clip.id.encode()).digest()


def truth_of(clip: Clip) -> ParsedCaption:
    """The facts of a clip: of its annotation, else as its caption tells them."""
    if clip.annotation is not None:
        return facts(AudioAnnotation.from_json(clip.annotation))
    return parse_caption(clip.caption or "")


def _opened(directory: str, clips: Iterable[Clip], left_out: Counter[str]) -> Iterator[HeldOut]:
    for clip in clips:
        try:
            yield HeldOut(clip, audio.read(Path(directory) / clip.audio), truth_of(clip))
        except Exception as error:
            _leave_out(clip, error, left_out)


def _known(clips: Iterable[Clip], left_out: Counter[str]) -> Iterator[tuple[Clip, ParsedCaption]]:
    """Training clips and what is true of them."""
    for clip in clips:
        if clip.split != "train":
            continue
        try:
            yield clip, truth_of(clip)
        except Exception as error:
            _leave_out(clip, error, left_out)


def _leave_out(clip: Clip, error: Exception, left_out: Counter[str]) -> None:
    """One clip must not end the job, whatever is wrong with it."""
    left_out[error.reason if isinstance(error, AudioError) else type(error).__name__] += 1
    _log.warning("clip %s is left out: %s", clip.id, error)
    _log.debug("clip %s", clip.id, exc_info=error)
