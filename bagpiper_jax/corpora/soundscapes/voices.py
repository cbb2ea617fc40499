"""Three voices out of the one that hibari-tts carries: its pitch and its vocal tract are changed apart from each other.

The model gives pitch and spectral envelopes before it gives sound. Scaling the pitch makes another larynx, stretching
the envelopes along frequency another throat; what is said, and when, stays.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from bagpiper_jax.audio import SAMPLE_RATE, resample
from bagpiper_jax.corpora.embedded.sounds import Wave, fade
from bagpiper_jax.corpora.embedded.voice import VoiceError


@dataclasses.dataclass(frozen=True)
class Voice:
    """Factors on the pitch and on the frequencies of the formants."""

    pitch: float
    formants: float


VOICES = {
    "low-pitched": Voice(0.55, 0.86),
    "medium-pitched": Voice(1.0, 1.0),
    "high-pitched": Voice(1.3, 1.08),
}
_RATE = 24_000
_SPEEDS = (0.8, 0.92)
_PITCH_JITTER = 0.03
_SILENCE = 0.005  # of the peak: what counts as silence at the ends of a sentence


def require() -> None:
    """Raises VoiceError where hibari-tts is not installed."""
    _speaker()


def say(rng: np.random.Generator, text: str, voice: str) -> Wave:
    """A sentence in one of `VOICES`, at 16 kHz, without silence at its ends.

    Raises:
        VoiceError: hibari-tts is not installed.
    """
    speaker, of = _speaker(), VOICES[voice]
    pitch = of.pitch * rng.uniform(1 - _PITCH_JITTER, 1 + _PITCH_JITTER)
    speed = np.array([rng.uniform(*_SPEEDS)], np.float32)
    spoken = []
    for phonemes in speaker.phonemize(text):
        ids = np.array([speaker.ids(phonemes)], np.int64)
        spoken.append(_voiced(speaker.sess.run(None, {"ids": ids, "speed": speed}), pitch, of.formants, rng))
    wave = np.concatenate(spoken)
    loud = np.flatnonzero(np.abs(wave) > _SILENCE * np.abs(wave).max())
    return fade(resample(wave[loud[0] : loud[-1] + 1], _RATE, SAMPLE_RATE), 0.01, 0.02)


@functools.cache
def _speaker():
    try:
        from hibari import Hibari
    except ImportError as error:
        raise VoiceError(
            "soundscapes speak through hibari-tts, which is not installed: "
            "pip install 'bagpiper_jax[quickstart]'"
        ) from error
    # One thread: the sums of a threaded runtime may differ in order, and with them the bytes of the corpus.
    return Hibari(threads=1)


def _voiced(outputs, pitch: float, formants: float, rng: np.random.Generator) -> Float[np.ndarray, "samples"]:
    """Sound of the model's outputs: magnitude and phase of the voiced part, magnitude of the noise, magnitude and
    phase of the rest, and the pitch."""
    from hibari import dsp

    voiced, phase, noise, rest, rest_phase, hertz = (np.asarray(output[0]) for output in outputs)
    if pitch != 1.0:
        rest = np.full_like(rest, -20.0)  # its phases hold the pitch that the voice had
    return dsp.synth(
        *(_stretched(part, formants) for part in (voiced, phase, noise, rest)), rest_phase, hertz * pitch, rng
    )


def _stretched(envelope: Float[np.ndarray, "bins F"], factor: float) -> Float[np.ndarray, "bins F"]:
    """What stood at a frequency stands at `factor` times that frequency."""
    bins = len(envelope)
    place = np.minimum(np.arange(bins) / factor, bins - 1)
    below = np.minimum(place.astype(int), bins - 2)
    share = (place - below)[:, None].astype(np.float32)
    return (1 - share) * envelope[below] + share * envelope[below + 1]
