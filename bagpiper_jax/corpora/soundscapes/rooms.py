"""What a room does to sound: an impulse response of direct sound and a tail that dies away at a known rate."""

import numpy as np
from jaxtyping import Float

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.corpora.embedded.sounds import Wave

_DELAY_SECONDS = 0.015  # until the tail begins
_DIRECT_TO_TAIL = 6.0  # dB


def impulse_response(rng: np.random.Generator, reverberation: float) -> Float[np.ndarray, "samples"]:
    """The response of a room whose sound dies away by 60 dB in so many seconds; 0 is the direct sound alone."""
    if reverberation <= 0:
        return np.ones(1)
    time = np.arange(round(reverberation * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / reverberation)
    tail *= 10 ** (-_DIRECT_TO_TAIL / 20) / np.sqrt(np.sum(tail**2))
    return np.concatenate([np.ones(1), np.zeros(round(_DELAY_SECONDS * SAMPLE_RATE) - 1), tail])


def heard_in(wave: Wave, response: Float[np.ndarray, "taps"]) -> Wave:
    """The wave with its tail; longer by the response."""
    if len(response) == 1:
        return wave * response[0]
    length = len(wave) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[:length]
