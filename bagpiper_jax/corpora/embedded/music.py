"""Short melodies on four synthesised instruments, in four keys and two tempos."""

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.corpora.embedded.sounds import Wave, decay, fade, harmonics, noise, seconds, tone

INSTRUMENTS = ("piano", "flute", "violin", "organ")
KEYS = {"C major": 261.63, "E minor": 329.63, "G major": 392.0, "B-flat major": 466.16}
"""Key → hertz of its tonic; at least three semitones apart, so that a coarse spectrum tells them."""
TEMPOS = {100.0: 3, 180.0: 5}
"""Quarter notes per minute → eighth notes of a melody; either lasts about 0.85 s."""

_DEGREES = {"major": (0, 4, 7, 12), "minor": (0, 3, 7, 12)}  # semitones of tonic, third, fifth and octave


def melody(rng: np.random.Generator, instrument: str, key: str, tempo: float) -> Wave:
    """Notes of the tonic triad, from tonic to tonic, as a waveform at 16 kHz."""
    count, length = TEMPOS[tempo], round(30.0 / tempo * SAMPLE_RATE)
    degrees = _DEGREES[key.split()[-1]]
    inner = rng.choice(degrees[1:], count - 2)
    pitches = KEYS[key] * 2.0 ** (np.concatenate([[0], inner, [0]]) / 12)
    return np.concatenate([fade(note(rng, instrument, pitch, length), 0.005, 0.02) for pitch in pitches])


def note(rng: np.random.Generator, instrument: str, pitch: float, samples: int) -> Wave:
    """One note of one instrument; the pitch in hertz."""
    t = seconds(samples)
    if instrument == "piano":
        return harmonics(pitch, samples, (1, 0.6, 0.35, 0.2, 0.1, 0.05)) * decay(samples, 0.12)
    if instrument == "flute":
        breath = 0.08 * noise(rng, samples, 1000, 4000)
        return fade(tone(pitch, samples) + 0.12 * tone(2 * pitch, samples) + breath, 0.04, 0.04)
    if instrument == "violin":
        vibrato = pitch * (1 + 0.012 * np.sin(2 * np.pi * 6 * t + rng.uniform(0, 6)))
        return fade(harmonics(vibrato, samples, 1 / np.arange(1, 17) ** 0.7), 0.05, 0.03)
    if instrument == "organ":
        pipes = ((0.5, 0.8), (1, 1.0), (2, 0.7), (4, 0.5), (8, 0.25))
        return sum((w * tone(r * pitch, samples) for r, w in pipes if r * pitch < 7600), np.zeros(samples))
    raise ValueError(f"unknown instrument {instrument!r}; known: {', '.join(INSTRUMENTS)}")
