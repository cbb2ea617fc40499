"""Whisper's log-mel features. numpy is needed to import this, and scipy, which JAX brings, to compute them."""

import functools

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.lengths import FFT_SIZE, HOP, MEL_BINS, SAMPLE_RATE, mel_frames

_FFT_BLOCK = 96
"""Frames whose spectra stay in the cache of a core, and whose products are too small for BLAS to divide among threads:
the last bit would depend on their number."""


def log_mel(samples: Float32[np.ndarray, "samples"], normalize: bool = True) -> Float32[np.ndarray, "F 128"]:
    """Whisper's log-mel features of a 16 kHz waveform, without padding to 30 s (docs/reference.md, Log-mel features).

    Args:
        samples: at least 201, so that the reflection at the edges exists.
        normalize: zero mean and unit variance first, as in training; False is what the vLLM port serves with.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or len(samples) <= FFT_SIZE // 2:
        raise ValueError(
            f"log_mel needs a mono waveform longer than {FFT_SIZE // 2} samples, got {samples.shape}"
        )
    if normalize:
        samples = samples - samples.mean()
        # Not np.dot: its last bit depends on the number of BLAS threads, and so would a run's rows.
        samples *= 1 / np.sqrt(np.square(samples).mean() + 1e-7)
    padded = np.pad(samples, FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP][: mel_frames(len(samples))]
    mel = np.empty((len(frames), MEL_BINS), np.float32)
    for begin in range(0, len(frames), _FFT_BLOCK):
        block = slice(begin, begin + _FFT_BLOCK)
        squares = _spectra_squared(frames[block] * _hann())
        for bins, band, filters in _mel_bands():
            np.matmul(squares[:, bins], filters, out=mel[block, band])
    mel = np.log10(np.maximum(mel, 1e-10, out=mel), out=mel)
    np.maximum(mel, mel.max() - 8.0, out=mel)
    mel += 4.0
    mel *= 0.25
    return mel


def _spectra_squared(frames: Float32[np.ndarray, "F 400"]) -> Float32[np.ndarray, "F 402"]:
    """Squares of the real and the imaginary part of each bin, in turns; `frames` is used up.

    scipy's transform is twice as fast as numpy's.
    """
    import scipy.fft

    spectra = scipy.fft.rfft(frames, axis=1, overwrite_x=True).view(np.float32)
    return np.square(spectra, out=spectra)


@functools.cache
def _hann() -> Float32[np.ndarray, "400"]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)).astype(np.float32)


@functools.cache
def _mel_bands() -> list[tuple[slice, slice, Float32[np.ndarray, "n 16"]]]:
    """(columns of `_spectra_squared`, mel bins, filters from one to the other) of each eighth of the mel bins.

    Together they are a quarter of the whole matrix, of which all else is zero.
    """
    filters, bands = np.repeat(_mel_filters(), 2, axis=0), []
    for begin in range(0, MEL_BINS, MEL_BINS // 8):
        band = slice(begin, begin + MEL_BINS // 8)
        heard = np.flatnonzero(filters[:, band].any(axis=1))
        bins = slice(heard[0], heard[-1] + 1)
        bands.append((bins, band, np.ascontiguousarray(filters[bins, band])))
    return bands


@functools.cache
def _mel_filters() -> Float32[np.ndarray, "201 128"]:
    """Triangles on Slaney's mel scale from 0 to 8000 Hz, each of unit area."""
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), MEL_BINS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (edges[2:] - edges[:-2])).astype(np.float32)


_LINEAR_HERTZ, _LINEAR_MELS, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0
# Slaney's scale is linear (3 mels per 200 Hz) up to 1 kHz and logarithmic above.


def _hertz_to_mel(hertz: float) -> float:
    return _LINEAR_MELS + np.log(hertz / _LINEAR_HERTZ) / _LOG_STEP


def _mel_to_hertz(mels: np.ndarray) -> np.ndarray:
    log_part = _LINEAR_HERTZ * np.exp(_LOG_STEP * (mels - _LINEAR_MELS))
    return np.where(mels < _LINEAR_MELS, mels * _LINEAR_HERTZ / _LINEAR_MELS, log_part)
