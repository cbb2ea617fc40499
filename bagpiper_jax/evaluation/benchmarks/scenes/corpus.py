"""The clips that a system is scored on, and what is true of them."""

import dataclasses
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bagpiper_jax.captions import AudioAnnotation, ParsedCaption, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.replies import ROOM
from bagpiper_jax.manifest import Clip, read_manifest

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Which clips are asked about, and how much.

    Attributes:
        split: clips of this split are scored; training clips give the baselines.
        clips: how many are to be captioned, and asked a question about.
        sounds: the first so many of them have sound made of their captions, and pass through the codec.
        requests: the first so many of them become requests.
        caption_tokens, reply_tokens: the longest caption, and the longest reply to a question or a request.
        seed: of the choice of questions and requests.
    """

    split: str = "test"
    clips: int = 128
    sounds: int = 64
    requests: int = 64
    caption_tokens: int = 1024
    reply_tokens: int = ROOM
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """One clip with its file and the facts that captions of it are scored against."""

    clip: Clip
    path: Path
    truth: ParsedCaption


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What the benchmarks of scenes need of a corpus.

    Attributes:
        held_out: captioned clips of the split to score.
        training: captioned clips of the training split, which the baselines are counted on.
        training_truth: what is true of each of them.
    """

    held_out: tuple[HeldOut, ...]
    training: tuple[Clip, ...]
    training_truth: tuple[ParsedCaption, ...]

    @property
    def by_id(self) -> dict[str, HeldOut]:
        return {example.clip.id: example for example in self.held_out}


def read_corpus(directory: str | Path, split: str, limit: int) -> Corpus:
    """Reads at most `limit` captioned clips of `split`, and all training clips; audio is not opened.

    The clips come in an order that only their ids decide, so that any first part of them is a fair sample: manifests
    are sorted by source. Clips whose annotation cannot be used are left out, and counted by the reason.

    Raises:
        BenchmarkError: nothing to score, or no training clips to count baselines on.
    """
    clips = [clip for clip in read_manifest(directory) if clip.audio and clip.caption]
    shuffled = sorted((clip for clip in clips if clip.split == split), key=_by_hash)
    left_out: Counter[str] = Counter()
    known = itertools.islice(_known(shuffled, left_out), limit)
    held_out = tuple(HeldOut(clip, Path(directory) / str(clip.audio), truth) for clip, truth in known)
    training = list(_known((clip for clip in clips if clip.split == "train"), left_out))
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        _log.warning("%s: clips left out: %s", directory, counts)
    if not held_out or not training:
        raise BenchmarkError(
            f"{directory} has {len(held_out)} usable captioned clips in split {split!r} and {len(training)} in "
            "'train'; both are needed, see build_corpus"
        )
    return Corpus(held_out, *map(tuple, zip(*training, strict=True)))


def _by_hash(clip: Clip) -> bytes:
    return hashlib.sha256(clip.id.encode()).digest()


def truth_of(clip: Clip) -> ParsedCaption:
    """The facts of a clip: of its annotation, else as its caption tells them."""
    if clip.annotation is not None:
        return facts(AudioAnnotation.from_json(clip.annotation))
    return parse_caption(clip.caption or "")


def _known(clips: Iterable[Clip], left_out: Counter[str]) -> Iterator[tuple[Clip, ParsedCaption]]:
    """Clips and what is true of them."""
    for clip in clips:
        try:
            yield clip, truth_of(clip)
        except Exception as error:
            _leave_out(clip, error, left_out)


def _leave_out(clip: Clip, error: Exception, left_out: Counter[str]) -> None:
    """One clip must not end the run, whatever is wrong with it."""
    left_out[type(error).__name__] += 1
    _log.warning("clip %s is left out: %s", clip.id, error)
    _log.debug("clip %s", clip.id, exc_info=error)
