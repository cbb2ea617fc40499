"""Scenes: what happens (a plan of one to four events), and how it sounds (a mix with known onsets and levels)."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.captions import Acoustics, AudioAnnotation, Music, SoundEvent, Speaker, Turn
from bagpiper_jax.corpora.embedded import music, sounds, voice

MAX_EVENTS = 4
LEVELS = {"loud": -13.0, "medium": -20.0, "soft": -27.0}
"""Level → dB of a sound's root mean square to full scale; speech and music are medium."""
NOISE = {"hardly any background noise": -70.0, "a faint hiss": -46.0}

_DOMAIN_SHARES = {"sound": 0.4, "speech": 0.35, "music": 0.25}
_SOUND_SECONDS = (0.5, 0.8)
_GAP_SECONDS = (0.08, 0.25)
_EDGE_SECONDS = (0.1, 0.2)
_PEAK = 0.95


@dataclasses.dataclass(frozen=True)
class Event:
    """One planned event: `name` is a sound's label, an instrument or a spoken word; the rest by domain."""

    domain: str
    name: str
    level: str = "medium"
    key: str = ""
    tempo: float = 0.0
    voice: str = ""

    @property
    def kind(self) -> str:
        return "speech" if self.domain == "speech" else self.name


Plan = tuple[Event, ...]


def combination(plan: Plan) -> tuple:
    """What must be new in a held-out scene: the kinds in order, or all about the event if there is only one."""
    return plan if len(plan) == 1 else tuple(event.kind for event in plan)


def draw_plan(rng: np.random.Generator, counts: Sequence[float]) -> Plan:
    """One to four random events, no two equal neighbours; `counts` are the shares of plans with 1, 2, 3 and 4."""
    count = rng.choice(np.arange(1, MAX_EVENTS + 1), p=counts)
    plan = [_draw_event(rng)]
    while len(plan) < count:
        event = _draw_event(rng)
        if event.kind != plan[-1].kind or event.domain == "speech":
            plan.append(event)
    return tuple(plan)


def _draw_event(rng: np.random.Generator) -> Event:
    domain = rng.choice(list(_DOMAIN_SHARES), p=list(_DOMAIN_SHARES.values()))
    if domain == "sound":
        return Event("sound", _pick(rng, sounds.SOUNDS), level=_pick(rng, LEVELS))
    if domain == "speech":
        return Event("speech", _pick(rng, voice.WORDS), voice=_pick(rng, voice.VOICES))
    tempo = _pick(rng, music.TEMPOS)
    return Event("music", _pick(rng, music.INSTRUMENTS), key=_pick(rng, music.KEYS), tempo=tempo)


def _pick(rng: np.random.Generator, options):
    options = list(options)
    return options[rng.integers(len(options))]


def held_out_plans(rng: np.random.Generator, count: int, counts: Sequence[float]) -> list[Plan]:
    """Plans of distinct combinations for validation and test.

    A sound alone is never held out: there are only as many such combinations as sounds, and training needs them.
    """
    plans: dict[tuple, Plan] = {}
    while len(plans) < count:
        plan = draw_plan(rng, counts)
        if len(plan) > 1 or plan[0].domain != "sound":
            plans.setdefault(combination(plan), plan)
    return list(plans.values())


def training_plans(
    rng: np.random.Generator, count: int, counts: Sequence[float], held_out: list[Plan]
) -> Iterator[Plan]:
    """Plans none of whose combinations is held out."""
    taken = {combination(plan) for plan in held_out}
    while count:
        plan = draw_plan(rng, counts)
        if combination(plan) not in taken:
            count -= 1
            yield plan


def word_plans(rng: np.random.Generator, count: int, held_out: list[Plan]) -> Iterator[Plan]:
    """Plans of one spoken word each, in a voice in which it is not held out."""
    taken = {combination(plan) for plan in held_out}
    words = [Event("speech", word, voice=of) for word in voice.WORDS for of in voice.VOICES]
    words = [event for event in words if combination((event,)) not in taken]
    for _ in range(count):
        yield (_pick(rng, words),)


def domain(plan: Plan) -> str:
    """The domain all events share, or "mixed"."""
    domains = {event.domain for event in plan}
    return domains.pop() if len(domains) == 1 else "mixed"


def render(
    plan: Plan, bank: voice.Bank, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "samples"], AudioAnnotation]:
    """Synthesises and mixes a scene: events one after another over a noise floor; the annotation is exact."""
    waves = [_at_level(_synthesise(event, bank, rng), LEVELS[event.level]) for event in plan]
    starts, end = [], _samples(rng, _EDGE_SECONDS)
    for wave in waves:
        starts.append(end)
        end += len(wave) + _samples(rng, _GAP_SECONDS)
    floor = _pick(rng, NOISE)
    mix = rng.standard_normal(end + _samples(rng, _EDGE_SECONDS)) * 10 ** (NOISE[floor] / 20)
    for start, wave in zip(starts, waves, strict=True):
        mix[start : start + len(wave)] += wave
    spans = [(start, start + len(wave)) for start, wave in zip(starts, waves, strict=True)]
    return mix.astype(np.float32), _annotate(plan, spans, len(mix), floor)


def _samples(rng: np.random.Generator, bounds: tuple[float, float]) -> int:
    return round(rng.uniform(*bounds) * SAMPLE_RATE)


def _synthesise(event: Event, bank: voice.Bank, rng: np.random.Generator) -> sounds.Wave:
    if event.domain == "speech":
        return voice.say(rng, bank, event.name, event.voice)
    if event.domain == "music":
        return music.melody(rng, event.name, event.key, event.tempo)
    return sounds.SOUNDS[event.name](rng, _samples(rng, _SOUND_SECONDS))


def _at_level(wave: sounds.Wave, decibels: float) -> sounds.Wave:
    """Scales to a root mean square, less where the peak would clip."""
    gain = 10 ** (decibels / 20) / (np.sqrt(np.mean(wave**2)) + 1e-9)
    return wave * min(gain, _PEAK / (np.abs(wave).max() + 1e-9))


def _annotate(plan: Plan, spans: list[tuple[int, int]], samples: int, floor: str) -> AudioAnnotation:
    voices = list(dict.fromkeys(event.voice for event in plan if event.voice))
    names = {voice: chr(ord("A") + place) for place, voice in enumerate(voices)}
    turns, heard, passages = [], [], []
    for event, (start, end) in zip(plan, spans, strict=True):
        times = {"start": round(start / SAMPLE_RATE, 3), "end": round(end / SAMPLE_RATE, 3)}
        if event.domain == "speech":
            turns.append(Turn(names[event.voice], text=event.name, **times))
        elif event.domain == "sound":
            heard.append(SoundEvent(event.name, level=event.level, **times))
        else:
            passages.append(Music(key=event.key, tempo=event.tempo, instruments=(event.name,), **times))
    present = {event.domain for event in plan}
    return AudioAnnotation(
        duration=round(samples / SAMPLE_RATE, 3),
        turns=tuple(turns),
        speakers=tuple(Speaker(names[voice], voice=(voice,)) for voice in voices),
        sounds=tuple(heard),
        music=tuple(passages),
        acoustics=Acoustics(noise=floor, quality="clear"),
        absent=tuple(name for name in ("speech", "music") if name not in present),
    )
