"""What a recording itself tells: where it is active, how loud and bright it is, its background, its pitch.

Captions state only what was measured here or is known from the source; a quantity that cannot be measured on a
clip is None and goes unsaid.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64

from bagpiper_jax.audio import SAMPLE_RATE

_FRAME, _HOP = 400, 160
_ACTIVE_BELOW_PEAK = 35.0
_PAUSE_BELOW_SPEECH = 25.0
_MIN_PAUSE_FRAMES = 10
_QUIETEST = -100.0

_WINDOW, _PITCH_HOP = 512, 320
_MIN_PITCH, _MAX_PITCH = 60.0, 400.0
_APERIODICITY = 0.15
_MIN_VOICED_FRAMES = 15
_MAX_SPREAD = 1.6


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Of one clip.

    Attributes:
        seconds: length.
        start, end: seconds between which the clip is active.
        level: root mean square of the active frames, dBFS.
        floor: level of the pauses, dBFS, or None where there is no pause of 0.1 s in all.
        centroid: Hz, power-weighted mean frequency.
        pitch: Hz, median over the voiced frames, or None where it is not steady or too short.
    """

    seconds: float
    start: float
    end: float
    level: float
    floor: float | None
    centroid: float
    pitch: float | None


def measure(samples: Float32[np.ndarray, "n"]) -> Measurement:
    """Measures a 16 kHz waveform of at least one frame (25 ms)."""
    levels = frame_levels(samples)
    active = np.flatnonzero(levels > levels.max() - _ACTIVE_BELOW_PEAK)
    level = 10 * np.log10(np.mean(10 ** (levels[active] / 10)))
    seconds = len(samples) / SAMPLE_RATE
    return Measurement(
        seconds=seconds,
        start=float(active[0] * _HOP / SAMPLE_RATE),
        end=min(seconds, float((active[-1] * _HOP + _FRAME) / SAMPLE_RATE)),
        level=float(level),
        floor=_floor(levels, level),
        centroid=_centroid(samples),
        pitch=pitch(samples),
    )


def frame_levels(samples: Float32[np.ndarray, "n"]) -> Float64[np.ndarray, "frames"]:
    """RMS of frames of 25 ms every 10 ms, dBFS, not below -100."""
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return 10 * np.log10(np.maximum(power, 10 ** (_QUIETEST / 10)))


def _floor(levels: np.ndarray, speech_level: float) -> float | None:
    pauses = levels[levels < speech_level - _PAUSE_BELOW_SPEECH]
    return float(np.median(pauses)) if len(pauses) >= _MIN_PAUSE_FRAMES else None


def _centroid(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(np.sum(power * frequencies) / max(np.sum(power), 1e-12))


def pitch(samples: Float32[np.ndarray, "n"]) -> float | None:
    """Median fundamental frequency in Hz of a voice, by YIN (de Cheveigné and Kawahara, 2002).

    The cumulative mean normalisation is what keeps it from the octave errors of plain autocorrelation. None if
    fewer than 0.3 s are voiced or the middle half of the frames spreads by more than a factor of 1.6.
    """
    longest = int(SAMPLE_RATE / _MIN_PITCH)
    if len(samples) < _WINDOW + longest:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW + longest)[::_PITCH_HOP]
    energy = np.mean(np.square(frames), axis=1)
    frames = frames[energy > 0.01 * energy.max()].astype(np.float64)
    lags = _first_dips(_normalised_difference(frames, longest))
    pitches = SAMPLE_RATE / lags[lags > 0]
    if len(pitches) < _MIN_VOICED_FRAMES:
        return None
    low, middle, high = np.percentile(pitches, (25, 50, 75))
    return float(middle) if high < _MAX_SPREAD * low else None


def _normalised_difference(frames: Float64[np.ndarray, "m w"], longest: int) -> Float64[np.ndarray, "m lags"]:
    """YIN's d'(τ) for τ in [0, longest]."""
    size = 2 ** int(np.ceil(np.log2(frames.shape[1] + _WINDOW)))
    head = np.fft.rfft(frames[:, :_WINDOW], size)
    correlation = np.fft.irfft(np.fft.rfft(frames, size) * head.conj(), size)[:, : longest + 1]
    cumulative = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energies = cumulative[:, _WINDOW : _WINDOW + longest + 1] - cumulative[:, : longest + 1]
    difference = np.maximum(energies[:, :1] + energies - 2 * correlation, 0)
    lags = np.arange(1, longest + 1)
    means = np.cumsum(difference[:, 1:], axis=1) / lags
    normalised = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] / np.maximum(means, 1e-12)
    return normalised


def _first_dips(normalised: Float64[np.ndarray, "m lags"]) -> np.ndarray:
    """The first lag of each row where it dips below the threshold and turns up again; 0 where it never does."""
    shortest = int(SAMPLE_RATE / _MAX_PITCH)
    inner = normalised[:, 1:-1]
    dips = (inner < _APERIODICITY) & (inner <= normalised[:, :-2]) & (inner < normalised[:, 2:])
    dips[:, : shortest - 1] = False
    return np.where(dips.any(axis=1), dips.argmax(axis=1) + 1, 0)
