"""The audio of a corpus in memory, and batches made one ahead of their use."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.errors import Explained
from bagpiper_jax.manifest import Clip, read_manifest

_log = logging.getLogger(__name__)


class CorpusAudioError(Explained, ValueError):
    """A corpus without audio that this training can use; names the corpus and the remedy."""


_Batch = TypeVar("_Batch")

CACHED_SECONDS = 4 * 3600
"""Audio kept in memory, as int16: 0.46 GB. Beyond it, files are read again."""


class Waveforms:
    """The audio of one split of some corpora, read when asked for; unreadable files are set aside.

    Args:
        corpora: manifest directories.
        split: the split whose clips are read.
        annotated: leave out clips without annotation.

    Raises:
        CorpusAudioError: there are none.
    """

    def __init__(self, corpora: Sequence[str | os.PathLike], split: str, annotated: bool = False):
        self.clips: list[tuple[Path, Clip]] = [
            (Path(corpus) / clip.audio, clip)
            for corpus in corpora
            for clip in read_manifest(corpus)
            if clip.split == split and clip.audio and (clip.annotation or not annotated)
        ]
        if not self.clips:
            raise CorpusAudioError(
                f"no {'annotated ' * annotated}{split} audio in {', '.join(map(str, corpora))}; build a corpus that "
                "has some with build_corpus"
            )
        self.rejected: dict[str, str] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._cached_seconds = 0.0

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, index: int) -> Float32[np.ndarray, "samples"] | None:
        """A waveform, or None if its file cannot be used."""
        if index in self._cache:
            return self._cache[index].astype(np.float32) / 32767
        path, clip = self.clips[index]
        try:
            samples = audio.read(path)
        except audio.AudioError as error:
            if clip.id not in self.rejected:
                _log.warning("clip %s set aside: %s", clip.id, error)
            self.rejected[clip.id] = error.reason
            return None
        samples = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        if self._cached_seconds < CACHED_SECONDS:
            self._cache[index] = samples
            self._cached_seconds += len(samples) / audio.SAMPLE_RATE
        return samples.astype(np.float32) / 32767

    def draw(self, rng: np.random.Generator) -> tuple[int, Float32[np.ndarray, "samples"]]:
        """A random usable clip: its index and waveform.

        Raises:
            CorpusAudioError: a hundred clips in a row could not be read.
        """
        for _ in range(100):
            index = int(rng.integers(len(self)))
            waveform = self.read(index)
            if waveform is not None:
                return index, waveform
        raise CorpusAudioError(f"the corpus cannot be read; rejects: {dict(list(self.rejected.items())[:5])}")


def prefetched(make: Callable[[int], _Batch], steps: range) -> Iterator[tuple[int, _Batch]]:
    """(step, make(step)) for each step, made one ahead of its use."""
    with ThreadPoolExecutor(1) as pool:
        if not steps:
            return
        ahead = pool.submit(make, steps.start)
        for step in steps:
            batch = ahead.result()
            if step + 1 < steps.stop:
                ahead = pool.submit(make, step + 1)
            yield step, batch
