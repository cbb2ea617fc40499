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


REPLAY_SPEEDS = (0.8, 1.25)


def crops(
    waveforms: Waveforms,
    tags: Tags,
    seed: int,
    step: int,
    count: int,
    frames: int,
    hop: int,
    replayed: float = 0.0,
) -> Crops:
    """The batch of one step: clips and offsets drawn evenly; short clips are followed by silence.

    Args:
        replayed: the share of crops that are played faster or slower, by a factor from `REPLAY_SPEEDS`: other voices
            and pitches than were recorded. What annotations say of voices, keys and tempi does not hold in them, so
            their tags count as unknown.

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
        if replayed and rng.random() < replayed:
            batch.waveform[row] = _replayed(rng, waveform, frames * hop)
            continue
        start = int(rng.integers(max(1, len(waveform) - frames * hop + 1)))
        piece = waveform[start : start + frames * hop]
        batch.waveform[row, : len(piece)] = piece
        if clip.annotation is not None:
            batch.tagged[row] = True
            batch.tags[row] = tags.of(clip, (start + centres) / audio.SAMPLE_RATE)
    return batch


def _replayed(rng: np.random.Generator, waveform: np.ndarray, length: int) -> Float32[np.ndarray, " T"]:
    """A crop of this length, played at another speed."""
    speed = np.exp(rng.uniform(*np.log(REPLAY_SPEEDS)))
    taken = int(length * speed)
    start = int(rng.integers(max(1, len(waveform) - taken + 1)))
    piece = audio.resample(waveform[start : start + taken], audio.SAMPLE_RATE * speed, audio.SAMPLE_RATE)
    return np.pad(piece[:length], (0, max(0, length - len(piece))))
