"""How like the true clips the sounds are that were made of their captions, or that went through the codec."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.benchmarks.scenes.agreement import rotated
from bagpiper_jax.evaluation.benchmarks.scenes.hearing import Waveform
from bagpiper_jax.evaluation.metrics.waveforms import codebook_use, mel_distance, stoi


def generated(
    true: Sequence[Waveform], ours: Sequence[Waveform], copies: Sequence[Waveform] | None
) -> list[Score]:
    """Spectral and duration differences to the true clip, beside those of another; the ceiling is its codec copy."""
    return [
        _paired(
            "generated_mel_distance", "dB", mel_distance, true, ours,
            "dB between the generated and the true clip; baseline: another clip", rotated(ours), copies,
        ),
        _paired(
            "generated_duration_error", "s", lambda a, b: abs(len(a) - len(b)) / SAMPLE_RATE, true, ours,
            "seconds by which the generated clip is too long or too short; baseline: another clip",
            rotated(ours), copies,
        ),
    ]  # fmt: skip


def codec(true: Sequence[Waveform], copies: Sequence[Waveform], speaks: Sequence[bool]) -> list[Score]:
    """Distance of the codec's copies, and how well speech in them is understood."""
    note = "dB between a clip and its codec copy; baseline: another clip"
    scores = [_paired("codec_mel_distance", "dB", mel_distance, true, copies, note)]
    spoken = [pair for *pair, words in zip(true, copies, speaks, strict=True) if words]
    if kept := _finite(stoi(*pair) for pair in spoken):
        note = "STOI, 0 to 1, of clips with speech through the codec"
        scores.append(Score("codec_stoi", float(np.mean(kept)), "", len(kept), len(kept), note=note))
    return scores


def codebooks(codes: Sequence[np.ndarray], size: int) -> list[Score]:
    """Of each codebook the share of codes that occur, and the perplexity of their distribution."""
    frames, found = sum(map(len, codes)), []
    for number, book in enumerate(codebook_use(codes, size)):
        group = ("codebook", str(number))
        found.append(Score("codes_used", 100 * book["used"], "%", frames, frames, group))
        found.append(Score("perplexity", book["perplexity"], "", frames, frames, group))
    return found


def _paired(
    name: str,
    unit: str,
    measure: Callable[[Waveform, Waveform], float],
    true: Sequence[Waveform],
    ours: Sequence[Waveform],
    note: str,
    deaf: Sequence[Waveform] | None = None,
    ceiling: Sequence[Waveform] | None = None,
) -> Score:
    """The mean of a distance, and that of the controls; the baseline is the distance of another true clip."""

    def distances(others: Sequence[Waveform] | None) -> list[float]:
        return [] if others is None else _finite(measure(a, b) for a, b in zip(true, others, strict=True))

    def mean(found: Sequence[float]) -> float | None:
        return float(np.mean(found)) if found else None

    found = distances(ours)
    return Score(
        name, mean(found), unit, len(found), len(true), note=note, higher_is_better=False,
        baseline=mean(distances(rotated(true))), deaf=mean(distances(deaf)), ceiling=mean(distances(ceiling)),
    )  # fmt: skip


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
