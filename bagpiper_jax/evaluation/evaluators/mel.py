"""Bands on the mel scale as Kaldi, Google and PaSST have them, and Kaldi's log-mel features."""

import functools

import numpy as np
from jaxtyping import Float, Float32

_PREEMPHASIS = 0.97
_POVEY = 0.85
_LEAST = float(np.finfo(np.float32).eps)
"""The least energy of a band, as torchaudio has it."""


@functools.cache
def bands(count: int, fft: int, rate: int, lowest: float, highest: float) -> Float[np.ndarray, "bins bands"]:
    """Triangles that are straight on the mel scale, where librosa's are straight in Hz; nothing of 0 Hz.

    Args:
        count: the number of bands.
        fft: samples of the transform.
        rate: samples a second.
        lowest, highest: Hz.
    """
    edges = np.linspace(_mel(lowest), _mel(highest), count + 2)
    bins = _mel(np.linspace(0.0, rate / 2, fft // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def _mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def kaldi(
    samples: Float32[np.ndarray, " samples"], rate: int, count: int
) -> Float32[np.ndarray, "frames bands"]:
    """Log energies in bands from 20 Hz up, of frames of 25 ms every 10 ms, without dither.

    As `torchaudio.compliance.kaldi.fbank` with its defaults. What does not fill a frame is dropped.
    """
    size, hop = rate * 25 // 1000, rate // 100
    fft = 1 << (size - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float64), size)[::hop]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi / (size - 1) * np.arange(size))) ** _POVEY
    power = np.abs(np.fft.rfft((frames - _PREEMPHASIS * before) * window, fft)) ** 2
    return np.log(np.maximum(power @ bands(count, fft, rate, 20.0, rate / 2), _LEAST)).astype(np.float32)
