"""Clips as the audio tower takes them, with the tags of every token; a function of the step."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32

from bagpiper_jax.audio import CHUNK_FRAMES, CHUNK_TOKENS, HOP, SAMPLE_RATE, log_mel, tower_tokens
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.waveforms import Waveforms
from bagpiper_jax.manifest import Clip

_TOKEN_SECONDS = 8 * HOP / SAMPLE_RATE  # a token is centred on every eighth mel frame of its chunk
_GAIN_DECIBELS = 2.0  # less than half of what tells loud from medium

Copy = Callable[[int, np.ndarray], np.ndarray]
"""A clip's index and waveform to a copy of it, e.g. through a codec."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TaggedClips:
    """B clips of at most C chunks, and the tags of their tokens (N = 13·C)."""

    mel: Float32[np.ndarray, "B C 100 M"]
    chunk_frames: Int32[np.ndarray, "B C"]
    tags: Bool[np.ndarray, "B N K"]
    valid: Bool[np.ndarray, "B N"]


def draw(
    waveforms: Waveforms, tags: Tags, copy: Copy | None, seed: int, step: int, clips: int, chunks: int
) -> TaggedClips:
    """The batch of one step: random clips and offsets, a little louder or softer; half of them copies."""
    rng = np.random.default_rng([seed, step])
    drawn = []
    for _ in range(clips):
        index, waveform = waveforms.draw(rng)
        if copy is not None and rng.random() < 0.5:
            waveform = copy(index, waveform)
        start = int(rng.integers(max(1, len(waveform) - chunks * SAMPLE_RATE + 1)))
        gain = 10 ** (rng.uniform(-_GAIN_DECIBELS, _GAIN_DECIBELS) / 20)
        drawn.append((waveforms.clips[index][1], waveform * np.float32(gain), start))
    return collate(drawn, tags, chunks)


def collate(clips: list[tuple[Clip, np.ndarray, int]], tags: Tags, chunks: int) -> TaggedClips:
    """(clip, waveform, first sample) → batch; every crop has at most `chunks` seconds."""
    rows = [_row(*clip, tags, chunks) for clip in clips]
    return TaggedClips(*(np.stack(column) for column in zip(*rows, strict=True)))


def _row(clip: Clip, waveform: np.ndarray, start: int, tags: Tags, chunks: int):
    features = log_mel(waveform[start : start + chunks * SAMPLE_RATE])
    mel = np.zeros((chunks * CHUNK_FRAMES, features.shape[1]), np.float32)
    mel[: len(features)] = features
    first = np.arange(chunks)
    frames = np.clip(len(features) - CHUNK_FRAMES * first, 0, CHUNK_FRAMES).astype(np.int32)
    seconds = first[:, None] + _TOKEN_SECONDS * np.arange(CHUNK_TOKENS)
    held = tags.of(clip, seconds.ravel() + start / SAMPLE_RATE)
    return (
        mel.reshape(chunks, CHUNK_FRAMES, -1), frames, held, np.arange(len(held)) < tower_tokens(len(features)),
    )  # fmt: skip
