"""Audio features of prompts, window by window: one fixed shape for clips of any length and number.

The tower attends inside windows of some seconds, so a window's features depend on that window alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from bagpiper_jax.audio import CHUNK_FRAMES, CHUNK_TOKENS, log_mel, mel_frames, tower_tokens
from bagpiper_jax.data.records import num_chunks
from bagpiper_jax.models.configs import AudioTowerConfig

AT_ONCE = 4
"""Windows through the tower in one call."""


class Windows(NamedTuple):
    """G windows of C chunks, the tower's arguments."""

    mel: Float32[np.ndarray, "G C 100 M"]
    chunk_frames: Int32[np.ndarray, "G C"]
    chunk_clip: Int32[np.ndarray, "G C"]
    chunk_window: Int32[np.ndarray, "G C"]


def empty_windows(count: int, config: AudioTowerConfig) -> Windows:
    """`count` windows without sound. With at least two chunks each, see `windows_of`."""
    chunks = count, max(2, config.window_chunks)
    whole = [np.zeros(chunks, np.int32) for _ in range(3)]
    return Windows(np.zeros((*chunks, CHUNK_FRAMES, config.mel_bins), np.float32), *whole)


def num_windows(samples: int, config: AudioTowerConfig) -> int:
    """Windows of a clip."""
    return -(-num_chunks(samples) // config.window_chunks)


def windows_of(samples: Float32[np.ndarray, " samples"], config: AudioTowerConfig) -> Windows:
    """The windows of one waveform."""
    mel, chunks = log_mel(samples), num_chunks(len(samples))
    windows = empty_windows(num_windows(len(samples), config), config)
    for index in range(chunks):
        place = divmod(index, config.window_chunks)
        piece = mel[index * CHUNK_FRAMES : (index + 1) * CHUNK_FRAMES]
        windows.mel[place][: len(piece)] = piece
        windows.chunk_frames[place] = len(piece)
        windows.chunk_window[place] = 1
    # The tower treats a clip's only chunk by itself. The last one of a longer clip may be alone in its window, so
    # that padding is said to be of the same clip.
    windows.chunk_clip[:] = 1 if chunks > 1 else windows.chunk_window
    return windows


def batch_of(windows: Sequence[Windows], config: AudioTowerConfig) -> Windows:
    """Up to `AT_ONCE` windows, filled up with empty ones."""
    batch = empty_windows(AT_ONCE, config)
    for row, window in enumerate(windows):
        for whole, part in zip(batch, window, strict=True):
            whole[row] = part
    return batch


def single(windows: Windows) -> list[Windows]:
    """Windows one by one."""
    return [Windows(*parts) for parts in zip(*windows, strict=True)]


def features_of(
    windows: Sequence[Float[np.ndarray, "CF D"]], samples: int, config: AudioTowerConfig
) -> Float[np.ndarray, "N D"]:
    """The features of a clip's tokens out of those of its windows."""
    kept = [window[: config.window_chunks * CHUNK_TOKENS] for window in windows]
    return np.concatenate(kept)[: tower_tokens(mel_frames(samples))]
