"""How good a codec is on clips it has not seen: mel distance, STOI of speech, use of every codebook."""

import dataclasses
import logging
from collections.abc import Sequence

import jax
import numpy as np

from bagpiper_jax.encoders.codec_losses import mel_distance
from bagpiper_jax.manifest import Clip
from bagpiper_jax.models.codecs.xcodec.functional import bucket
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.configs import CodecConfig

_log = logging.getLogger(__name__)

_mel_distance = jax.jit(mel_distance, static_argnames="sample_rate")


@dataclasses.dataclass(frozen=True)
class HeldOutClip:
    """A clip to measure: its domain, its samples, and when somebody speaks (seconds)."""

    domain: str
    waveform: np.ndarray
    speech: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, clip: Clip, waveform: np.ndarray) -> "HeldOutClip":
        """Speech is where the annotation has turns, or all of a speech clip without any."""
        turns = (clip.annotation or {}).get("turns", ())
        spans = [(turn["start"], turn["end"]) for turn in turns if turn.get("end") is not None]
        if not spans and clip.domain == "speech":
            spans = [(0.0, float(len(waveform)))]  # a slice ends where the waveform does
        return cls(clip.domain, waveform, tuple(spans))


@dataclasses.dataclass(frozen=True)
class CodecReport:
    """What was measured.

    Attributes:
        clips: the number of clips.
        mel: mean absolute difference of natural-log mels, per domain.
        stoi: short-time objective intelligibility of everything that is said in the clips, joined, since words are
            too short to be measured one by one; None without pystoi or speech.
        speech_seconds: the length of that speech.
        used: share of each codebook that occurs at all.
        perplexity: exp(entropy) of each stream.
    """

    clips: int
    mel: dict[str, float]
    stoi: float | None
    speech_seconds: float
    used: tuple[float, ...]
    perplexity: tuple[float, ...]


def reconstruct(parameters, config: CodecConfig, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One clip through the codec: the decoded waveform, cut to whole frames, and its codes [N, S]."""
    codec = LoadedXCodec(parameters, config)
    (codes,) = codec.encode([waveform])
    (decoded,) = codec.decode([codes])
    return decoded, codes


def measure(
    parameters, config: CodecConfig, clips: Sequence[HeldOutClip]
) -> tuple[CodecReport, list[np.ndarray]]:
    """Measures clips; returns the report and the decoded waveforms. ValueError if no clip holds a frame."""
    mel, decoded, spoken = {}, [], []
    counts = np.zeros((config.num_codebooks, config.codebook_size))
    for clip in clips:
        if len(clip.waveform) < config.hop:
            continue
        ours, codes = reconstruct(parameters, config, clip.waveform)
        decoded.append(ours)
        original = clip.waveform[: len(ours)]
        mel.setdefault(clip.domain, []).append(_distance(ours, original, config))
        for start, end in clip.speech:
            span = slice(int(start * config.sample_rate), int(end * config.sample_rate))
            spoken.append((original[span], ours[span]))
        for stream, column in enumerate(codes.T):
            counts[stream] += np.bincount(column, minlength=config.codebook_size)
    if not decoded:
        raise ValueError("no validation clip is as long as one codec frame")
    share = counts / counts.sum(1, keepdims=True)
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(1)
    report = CodecReport(
        clips=len(decoded),
        mel={domain: float(np.mean(values)) for domain, values in sorted(mel.items())},
        stoi=_stoi(spoken, config.sample_rate),
        speech_seconds=sum(len(original) for original, _ in spoken) / config.sample_rate,
        used=tuple(float(used) for used in (counts > 0).mean(1)),
        perplexity=tuple(float(value) for value in np.exp(entropy)),
    )
    return report, decoded


def scalars(report: CodecReport) -> dict[str, float]:
    """The report as flat names, for TensorBoard."""
    flat = {f"mel_{domain}": value for domain, value in report.mel.items()}
    if report.stoi is not None:
        flat["stoi"] = report.stoi
    for stream, (used, perplexity) in enumerate(zip(report.used, report.perplexity, strict=True)):
        flat |= {f"used_{stream}": used, f"perplexity_{stream}": perplexity}
    return flat


def _distance(ours: np.ndarray, original: np.ndarray, config: CodecConfig) -> float:
    """Mel distance, at a power-of-two number of frames so that few shapes compile; added silence agrees."""
    size = bucket(len(ours) // config.hop) * config.hop
    pair = [np.pad(x, (0, size - len(x)))[None] for x in (ours, original)]
    return float(_mel_distance(*pair, sample_rate=config.sample_rate)[0]) * size / len(ours)


def _stoi(spoken: Sequence[tuple[np.ndarray, np.ndarray]], sample_rate: int) -> float | None:
    try:
        from pystoi import stoi
    except ImportError:
        return None
    if sum(len(original) for original, _ in spoken) < sample_rate:
        return None  # too little: pystoi would answer 1e-5 and a warning
    original, ours = (np.concatenate(side) for side in zip(*spoken, strict=True))
    return float(stoi(original, ours, sample_rate))
