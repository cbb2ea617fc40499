"""Random crops of a corpus, a function of the step: a resumed run sees what the uninterrupted one would."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Bool, Float32

from bagpiper_jax import audio
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.waveforms import Waveforms


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Crops:
    """B crops of N frames, T = N·hop samples; which tags hold in each frame, and in which crops that is known."""

    waveform: Float32[np.ndarray, "B T"]
    tags: Bool[np.ndarray, "B N C"]
    tagged: Bool[np.ndarray, "B"]


def crops(waveforms: Waveforms, tags: Tags, seed: int, step: int, count: int, frames: int, hop: int) -> Crops:
    """The batch of one step: clips and offsets drawn evenly; short clips are followed by silence.

    Raises:
        CorpusAudioError: a hundred clips in a row could not be read.
    """
    rng = np.random.default_rng([seed, step])
    batch = Crops(
        np.zeros((count, frames * hop), np.float32),
        np.zeros((count, frames, len(tags)), bool),
        np.zeros(count, bool),
    )
    centres = (np.arange(frames) + 0.5) * hop
    for row in range(count):
        index, waveform = waveforms.draw(rng)
        clip = waveforms.clips[index][1]
        start = int(rng.integers(max(1, len(waveform) - frames * hop + 1)))
        piece = waveform[start : start + frames * hop]
        batch.waveform[row, : len(piece)] = piece
        if clip.annotation is not None:
            batch.tagged[row] = True
            batch.tags[row] = tags.of(clip, (start + centres) / audio.SAMPLE_RATE)
    return batch
