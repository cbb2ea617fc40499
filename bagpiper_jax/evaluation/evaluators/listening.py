"""What a listener makes of a clip, and the log-mel patches that Google's listeners take."""

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.evaluation.evaluators.mel import bands as mel_bands

RATE = 16_000
FRAME, HOP, FFT, BANDS = 400, 160, 512, 64
LOWEST, HIGHEST = 125.0, 7_500.0
PATCH = 96
"""Frames of a patch: 0.96 s."""


@dataclasses.dataclass(frozen=True)
class Heard:
    """A clip as a listener hears it.

    Attributes:
        embeddings: of its windows, [windows, D].
        logits: of its windows by class, [windows, classes]; None of a listener that names no classes.
    """

    embeddings: Float32[np.ndarray, "windows D"]
    logits: Float32[np.ndarray, "windows classes"] | None = None

    @property
    def clip_logits(self) -> Float32[np.ndarray, " classes"] | None:
        """The mean over windows."""
        return None if self.logits is None else self.logits.mean(0)


class Listener(Protocol):
    """A model that hears what is in a clip.

    Attributes:
        name, version: see the package.
        labels: the names of its classes, in order; empty where it has none.
    """

    name: str
    version: str
    labels: tuple[str, ...]

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        ...


def patches(
    samples: Float32[np.ndarray, " samples"], offset: float, hop: int = PATCH
) -> Float32[np.ndarray, "patches 96 64"]:
    """Log-mel patches of a 16 kHz waveform as VGGish and YAMNet take them: log(magnitude in bands + offset).

    A clip shorter than a patch gets zeros behind it; of longer ones, what does not fill a patch is dropped.

    Args:
        hop: frames from one patch to the next.
    """
    least = FRAME + (PATCH - 1) * HOP
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, least - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi / FRAME * np.arange(FRAME))
    bands = np.log(
        np.abs(np.fft.rfft(frames * window, FFT)) @ mel_bands(BANDS, FFT, RATE, LOWEST, HIGHEST) + offset
    )
    whole = np.lib.stride_tricks.sliding_window_view(bands, PATCH, axis=0)[::hop]
    return np.ascontiguousarray(whole.swapaxes(1, 2), np.float32)
