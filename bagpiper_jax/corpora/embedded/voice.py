"""Spoken words from hibari-tts, varied in speed and shifted in pitch to make voices.

Only the voice inside the package ("heart") is used: the others would be downloaded.
"""

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE, resample
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.embedded.sounds import Wave, fade

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NOUNS = ("apple", "river", "garden", "window", "mountain", "table", "paper", "island", "doctor", "candle")
WORDS = DIGITS + NOUNS
VOICES = {"low-pitched": (0.8, 0.86), "high-pitched": (1.12, 1.2)}
"""Voice → range of the factor by which pitch and formants are shifted."""

_SPEEDS = (0.76, 0.84, 0.92)
_TAKES = 2
_RATE = 24_000
_SILENCE = 0.02  # of the peak: what counts as silence at the ends of a word


class VoiceError(CorpusError):
    """The text-to-speech package is missing or unusable."""


Bank = dict[str, list[Wave]]


def record_bank() -> Bank:
    """Every word at every speed, several takes, at 24 kHz without silence at the ends; about two seconds.

    Raises:
        VoiceError: hibari-tts is not installed.
    """
    try:
        from hibari import Hibari
    except ImportError as error:
        raise VoiceError(
            "the embedded corpus speaks through hibari-tts, which is not installed: "
            "pip install 'bagpiper_jax[quickstart]'"
        ) from error
    # One thread: the sums of a threaded runtime may differ in order, and with them the bytes of the corpus.
    synthesise = Hibari(threads=1)
    return {word: [_record(synthesise, word, s, t) for s in _SPEEDS for t in range(_TAKES)] for word in WORDS}


def _record(synthesise, word: str, speed: float, take: int) -> Wave:
    wave = np.asarray(synthesise(word, speed=speed, seed=take), np.float32)
    loud = np.flatnonzero(np.abs(wave) > _SILENCE * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1]


def say(rng: np.random.Generator, bank: Bank, word: str, voice: str) -> Wave:
    """A take of a word in one of `VOICES`, at 16 kHz."""
    takes = bank[word]
    factor = rng.uniform(*VOICES[voice])
    return fade(resample(takes[rng.integers(len(takes))], _RATE * factor, SAMPLE_RATE), 0.01, 0.02)
