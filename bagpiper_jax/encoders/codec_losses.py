"""What the codec's waveform is judged by: log-mel and magnitude spectra at several resolutions.

They hear no phase: a decoder that learns from these alone sounds rough. An adversary hears more (`adversary/`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

RESOLUTIONS = ((256, 20), (512, 40), (1024, 80), (2048, 80))
"""(window in samples, mel bins); frames advance by a quarter window."""

FLOOR = 3e-4
"""Magnitude below which differences stop to matter; a full-scale sine has magnitude 0.5."""


def magnitudes(waveform: Float[Array, "B T"], window: int) -> Float[Array, "B F K"]:
    """Hann-windowed magnitude spectrum, scaled by the window's sum, hop a quarter window."""
    padding = window // 2 + (-waveform.shape[1]) % (window // 4)
    frames = overlapping_frames(jnp.pad(waveform, ((0, 0), (window // 2, padding))), window)
    taper = periodic_hann(window)
    spectrum = jnp.fft.rfft(frames * (taper / taper.sum()), axis=-1)
    return jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + 1e-12)


def overlapping_frames(waveform: Float[Array, "B T"], window: int) -> Float[Array, "B F W"]:
    """Frames of `window` samples, one begins every quarter of them; T is a multiple of that quarter."""
    blocks = waveform.reshape(len(waveform), -1, window // 4)
    count = blocks.shape[1] - 3
    return jnp.concatenate([blocks[:, i : i + count] for i in range(4)], axis=-1)


def periodic_hann(window: int) -> np.ndarray:
    """A Hann window whose copies, shifted by quarters, add to a constant."""
    return np.hanning(window + 1)[:-1].astype(np.float32)


@functools.lru_cache
def mel_filters(window: int, bins: int, sample_rate: int) -> np.ndarray:
    """Triangular filters [window/2+1, bins], evenly spaced in HTK mel up to Nyquist, each summing to 1."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bins + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    return (filters / np.maximum(filters.sum(0), 1e-8)).astype(np.float32)


def log_mel(magnitude: Float[Array, "B F K"], bins: int, sample_rate: int) -> Float[Array, "B F M"]:
    """Natural logarithm of mel magnitudes, floored."""
    window = 2 * (magnitude.shape[-1] - 1)
    return jnp.log(magnitude @ mel_filters(window, bins, sample_rate) + FLOOR)


def spectral_losses(
    generated: Float[Array, "B T"], target: Float[Array, "B T"], sample_rate: int
) -> dict[str, jax.Array]:
    """Means over the resolutions. `mel`: L1 of log-mels; `spectral`: L1 of log magnitudes plus convergence."""
    mel, spectral = [], []
    for window, bins in RESOLUTIONS:
        ours, theirs = magnitudes(generated, window), magnitudes(target, window)
        mel.append(jnp.abs(log_mel(ours, bins, sample_rate) - log_mel(theirs, bins, sample_rate)).mean())
        log_distance = jnp.abs(jnp.log(ours + FLOOR) - jnp.log(theirs + FLOOR)).mean()
        convergence = jnp.linalg.norm(ours - theirs) / (jnp.linalg.norm(theirs) + 1e-3)
        spectral.append(log_distance + convergence)
    return {"mel": sum(mel) / len(mel), "spectral": sum(spectral) / len(spectral)}


def mel_distance(
    generated: Float[Array, "B T"], target: Float[Array, "B T"], sample_rate: int
) -> Float[Array, "B"]:
    """Mean absolute difference of 80-bin log-mels (natural log, window 1024): the reported figure."""
    ours, theirs = (log_mel(magnitudes(x, 1024), 80, sample_rate) for x in (generated, target))
    return jnp.abs(ours - theirs).mean(axis=(1, 2))
