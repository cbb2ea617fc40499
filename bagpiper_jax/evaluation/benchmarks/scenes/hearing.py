"""Sounds as waveforms: those that a system made, true clips and the codec's copies of them; and what is heard there."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.captions import ParsedCaption, parse_caption
from bagpiper_jax.evaluation.benchmarks.generated.sounds import at_hand
from bagpiper_jax.evaluation.benchmarks.protocol import Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.scenes import agreement
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import HeldOut

Waveform = Float32[np.ndarray, " samples"]
SILENCE = np.zeros(audio.SAMPLE_RATE // 10, np.float32)
"""In the place of a sound that is shorter, or was not made."""


def waveforms(paths: Mapping[str, Path]) -> dict[str, Waveform]:
    """Name → the sound at 16 kHz, of those that can be read."""
    found = {}
    for name, path in paths.items():
        try:
            sound = audio.read(path, min_seconds=0)
        except audio.AudioError:
            continue  # the item has its fault, or its score has none of it
        found[name] = sound if len(sound) >= len(SILENCE) else SILENCE
    return found


def made(replies: Iterable[tuple[Item, Reply]]) -> dict[str, Waveform]:
    """Item → the sound of its reply."""
    return waveforms({item.id: Path(reply.audio) for item, reply in replies if reply.audio})


def captions(tools: Tools, sounds: Mapping[str, Waveform]) -> tuple[dict[str, str], str]:
    """Name → what the evaluator `captioner` says of the sound, all asked at once; else what it needs."""
    if not sounds:
        return {}, ""
    captioner, missing = at_hand(tools, "captioner")
    if captioner is None:
        return {}, missing
    return dict(zip(sounds, captioner.captions(list(sounds.values())), strict=True)), ""


def facts_told(text: str, example: HeldOut, prefix: str = "") -> dict[str, Verdict]:
    """The verdicts on a caption of a clip, fact by fact."""
    shares = agreement.told(parse_caption(text), example.truth)
    return {prefix + name: Verdict(float(value), text) for name, value in shares.items()}


def scored(
    section: str,
    texts: Sequence[str],
    examples: Sequence[HeldOut],
    training: Sequence[ParsedCaption],
    prefix: str = "",
    ceiling: Sequence[str] | None = None,
) -> list[Score]:
    """`agreement.caption_scores` of captions, in a section of the table; none where there are no captions."""
    if not texts:
        return []
    best = None if ceiling is None else [parse_caption(text) for text in ceiling]
    heard, truth = [parse_caption(text) for text in texts], [example.truth for example in examples]
    return in_section(section, agreement.caption_scores(heard, truth, training, prefix, best))


def nothing(section: str, name: str, judged: Sequence[Judged], missing: str = "") -> Score:
    """In the place of scores that need what is missing, or of which no item has a reply: the row says why."""
    why = missing or next((each.detail or each.fault for each in judged if each.fault), "")
    return Score(name, None, "%", 0, len(judged), ("section", section), note=why)


def in_section(section: str, scores: Iterable[Score]) -> list[Score]:
    """The scores as the rows of one section of the table."""
    return [dataclasses.replace(score, group=("section", section)) for score in scores]
