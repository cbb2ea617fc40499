"""Fourteen environmental sounds synthesised from noise, partials and envelopes, each with random variation.

Every function takes a numpy generator and a length in samples at 16 kHz, and returns a waveform of about that
length; levels are set by the mixer.
"""

import numpy as np
from jaxtyping import Float

from bagpiper_jax.audio import SAMPLE_RATE

Wave = Float[np.ndarray, "samples"]


def seconds(samples: int) -> np.ndarray:
    """Time of every sample."""
    return np.arange(samples) / SAMPLE_RATE


def tone(frequency: np.ndarray | float, samples: int, phase: float = 0.0) -> Wave:
    """A sine; `frequency` in hertz may vary by sample."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(frequency, samples)) / SAMPLE_RATE + phase)


def harmonics(frequency: np.ndarray | float, samples: int, weights) -> Wave:
    """A sum of harmonics 1, 2, … with the given amplitudes; those above 7.6 kHz are left out."""
    highest = np.max(frequency)
    kept = [(n, w) for n, w in enumerate(weights, 1) if n * highest < 7600]
    return sum(w * tone(n * np.asarray(frequency), samples) for n, w in kept)


def noise(rng: np.random.Generator, samples: int, low: float, high: float) -> Wave:
    """Gaussian noise between two frequencies, with slopes of a quarter octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE) + 1.0
    slopes = np.log2(frequency / low), np.log2(high / frequency)
    gain = np.clip(4 * np.minimum(*slopes) + 1, 0, 1)
    shaped = np.fft.irfft(spectrum * gain, samples)
    return shaped / (np.std(shaped) + 1e-9)


def decay(samples: int, time_constant: float) -> Wave:
    """An exponential decay; the constant in seconds."""
    return np.exp(-seconds(samples) / time_constant)


def fade(wave: Wave, attack: float = 0.01, release: float = 0.03) -> Wave:
    """Raised-cosine edges, in seconds."""
    for length, part in ((attack, slice(None)), (release, slice(None, None, -1))):
        count = min(len(wave), round(length * SAMPLE_RATE))
        ramp = np.ones(len(wave))
        ramp[:count] = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
        wave = wave * ramp[part]
    return wave


def repeat(strike: Wave, samples: int, period: float, rng: np.random.Generator, jitter: float = 0.03) -> Wave:
    """Strikes every `period` seconds, slightly uneven in time and strength."""
    wave = np.zeros(samples)
    for beat in np.arange(0, samples / SAMPLE_RATE - 0.06, period):
        start = max(0, round((beat + rng.uniform(-jitter, jitter) * period) * SAMPLE_RATE))
        part = strike[: samples - start]
        wave[start : start + len(part)] += part * rng.uniform(0.8, 1.0)
    return wave


def dog_bark(rng, samples):
    """Two short yelps, harmonics swept up and down."""
    length = samples * 2 // 5
    t = seconds(length) * SAMPLE_RATE / length
    pitch = rng.uniform(320, 420) * (0.8 + 0.5 * np.sin(np.pi * t))
    bark = harmonics(pitch, length, (1, 0.9, 1, 0.7, 0.4, 0.2)) + 0.5 * noise(rng, length, 500, 2000)
    bark *= np.sin(np.pi * t) ** 0.5
    return np.concatenate([bark, np.zeros(samples // 5), 0.9 * bark])


def bell(rng, samples):
    """Inharmonic partials that ring out."""
    base = rng.uniform(780, 900)
    partials = ((1, 1.0, 0.5), (2.0, 0.6, 0.35), (2.76, 0.5, 0.25), (4.1, 0.4, 0.15), (5.4, 0.3, 0.1))
    return sum(w * tone(base * r, samples, rng.uniform(0, 6)) * decay(samples, d) for r, w, d in partials)


def rain(rng, samples):
    """Wide hiss with droplets."""
    drops = np.where(rng.random(samples) < 0.004, rng.standard_normal(samples) * 8, 0)
    return fade(noise(rng, samples, 1500, 7500) + np.convolve(drops, decay(64, 0.001), "same"), 0.05, 0.08)


def siren(rng, samples):
    """A tone that wails up and down."""
    wail = 950 + 350 * np.sin(2 * np.pi * rng.uniform(2.0, 2.6) * seconds(samples) + rng.uniform(0, 6))
    return fade(harmonics(wail, samples, (1, 0.5, 0.35, 0.15)))


def knock(rng, samples):
    """Dull wooden thumps, three or four."""
    length = 2400
    strike = tone(rng.uniform(150, 190), length) * decay(length, 0.03)
    strike += 0.4 * noise(rng, length, 250, 700) * decay(length, 0.01)
    return repeat(strike, samples, rng.uniform(0.18, 0.21), rng)


def wind(rng, samples):
    """Low noise that swells."""
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(1.2, 1.8) * seconds(samples) + rng.uniform(0, 6))
    return fade(noise(rng, samples, 180, 500) * swell, 0.12, 0.12)


def whistle(rng, samples):
    """One high pure tone with vibrato."""
    pitch = rng.uniform(2100, 2500) * (1 + 0.015 * np.sin(2 * np.pi * 9 * seconds(samples)))
    return fade(tone(pitch, samples) + 0.05 * noise(rng, samples, 1500, 4000), 0.04, 0.06)


def engine(rng, samples):
    """A pulse train of few tens of hertz, rumbling."""
    rate = rng.uniform(38, 48) * (1 + 0.06 * seconds(samples))
    pulses = np.maximum(0, tone(rate, samples)) ** 6
    return fade(
        pulses * noise(rng, samples, 60, 900) + 0.6 * harmonics(rate * 2, samples, (1, 0.8, 0.6)), 0.05
    )


def breaking_glass(rng, samples):
    """A crack, then many high partials that die away."""
    wave = 2 * noise(rng, samples, 2000, 6000) * decay(samples, 0.02)
    for start in rng.uniform(0, 0.25, 12):
        first = round(start * SAMPLE_RATE)
        ring = tone(rng.uniform(2600, 5400), samples) * decay(samples, rng.uniform(0.03, 0.12))
        wave[first:] += rng.uniform(0.4, 1) * ring[: samples - first]
    return wave


def footsteps(rng, samples):
    """Gritty steps: heel and sole."""
    length = 2900
    grit = noise(rng, length, 400, 1300)
    heel, sole = decay(length, 0.012), np.roll(np.sin(np.pi * np.linspace(0, 1, length)) ** 8, 200)
    return repeat(grit * (heel + 0.5 * sole), samples, rng.uniform(0.27, 0.32), rng)


def hand_clap(rng, samples):
    """Sharp bursts in the middle of the spectrum."""
    length = 1600
    clap = noise(rng, length, 1300, 3000) * (decay(length, 0.012) + 0.3 * decay(length, 0.04))
    return repeat(clap, samples, rng.uniform(0.2, 0.24), rng)


def clock(rng, samples):
    """Thin ticks, every second one lower."""
    length = 500
    tick, tock = (noise(rng, length, f, 1.2 * f) * decay(length, 0.005) for f in (6200, 5200))
    period = rng.uniform(0.26, 0.3)
    late = round(period / 2 * SAMPLE_RATE)
    tocks = repeat(tock, samples - late, period, rng, 0.0)
    return repeat(tick, samples, period, rng, 0.0) + np.concatenate([np.zeros(late), tocks])


def bird(rng, samples):
    """Quick high chirps that glide."""
    length = round(rng.uniform(0.07, 0.09) * SAMPLE_RATE)
    t = np.linspace(0, 1, length)
    chirp = tone(rng.uniform(3300, 3700) + 1600 * np.sin(np.pi * t), length) * np.sin(np.pi * t)
    return repeat(chirp, samples, rng.uniform(0.12, 0.15), rng, 0.1)


def car_horn(rng, samples):
    """Two steady brassy tones at once."""
    base = rng.uniform(380, 420)
    weights = (0.7, 1, 1, 0.9, 0.7, 0.5, 0.4, 0.3)
    return fade(harmonics(base, samples, weights) + harmonics(base * 1.26, samples, weights), 0.02, 0.04)


SOUNDS = {
    "dog bark": dog_bark,
    "bell": bell,
    "rain": rain,
    "siren": siren,
    "knock": knock,
    "wind": wind,
    "whistle": whistle,
    "engine": engine,
    "breaking glass": breaking_glass,
    "footsteps": footsteps,
    "hand clap": hand_clap,
    "clock": clock,
    "bird": bird,
    "car horn": car_horn,
}
"""Label → synthesiser."""
