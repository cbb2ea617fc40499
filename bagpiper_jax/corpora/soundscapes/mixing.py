"""How a scene sounds: every part by itself at its level, their sum, and the annotation of it."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.captions import Acoustics, AudioAnnotation, Music, SoundEvent, Speaker, Turn
from bagpiper_jax.captions.lexicon import ROOM_SECONDS
from bagpiper_jax.corpora.embedded import music, sounds
from bagpiper_jax.corpora.embedded.scenes import Event
from bagpiper_jax.corpora.embedded.sounds import Wave, fade
from bagpiper_jax.corpora.soundscapes import rooms, voices
from bagpiper_jax.corpora.soundscapes.plans import NOISE_SNRS, Scene

LEVELS = {"loud": -16.0, "medium": -23.0, "soft": -30.0}
"""Level → dB of an event's root mean square to full scale, before `_PEAK`; speech and music are medium."""

_SOUND_SECONDS = (0.8, 1.3)
_GAP_SECONDS = (0.1, 0.3)
_EDGE_SECONDS = (0.3, 0.5)
_OVERLAP = (0.5, 0.8)  # of the shorter of two events
_TAIL = 0.5  # of the room's reverberation, kept at the end
_PEAK = 0.95


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a mix, as long as the clip each.

    Attributes:
        events: of each event.
        spans: the first sample of each event and the one behind its last, without the room's tail.
        background, noise: what goes on all the while; zeros where there is no background.
    """

    events: tuple[Wave, ...]
    spans: tuple[tuple[int, int], ...]
    background: Wave
    noise: Wave

    @property
    def mix(self) -> Wave:
        """Their sum; all of it is softer where it would clip, so that no ratio changes."""
        total = sum(self.events, self.background + self.noise)
        return total * min(1.0, _PEAK / np.abs(total).max())


def render(scene: Scene, rng: np.random.Generator) -> tuple[Float32[np.ndarray, "samples"], AudioAnnotation]:
    """The sound of a scene, and what is true of it. Raises VoiceError."""
    parts = take_apart(scene, rng)
    mix = parts.mix.astype(np.float32)
    return mix, _annotate(scene, parts.spans, len(mix))


def take_apart(scene: Scene, rng: np.random.Generator) -> Parts:
    """The parts of a scene. Raises VoiceError."""
    seconds = ROOM_SECONDS[scene.room]
    response = rooms.impulse_response(rng, seconds)
    dry = [_sound(event, rng) for event in scene.events]
    spans = _spans(scene, [len(wave) for wave in dry], rng)
    length = (
        max(end for _, end in spans) + _samples(rng, _EDGE_SECONDS) + round(_TAIL * seconds * SAMPLE_RATE)
    )
    events = []
    for event, wave, (start, end) in zip(scene.events, dry, spans, strict=True):
        placed = _placed(rooms.heard_in(wave, response), start, length)
        events.append(placed * _gain(placed[start:end], LEVELS[event.level]))
    under = np.zeros(length)
    if scene.background:
        going_on = _going_on(scene.background, length, rng)
        under = _placed(rooms.heard_in(going_on, response), 0, length)
        under *= _gain(under, LEVELS["medium"] - scene.snr)
    noise = rng.standard_normal(length)
    noise *= _gain(noise, LEVELS["medium"] - NOISE_SNRS[scene.noise])
    return Parts(tuple(events), tuple(spans), under, noise)


def _spans(scene: Scene, lengths: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Where each event lies. One that overlaps begins and ends later than the event before it."""
    start = _samples(rng, _EDGE_SECONDS)
    spans = [(start, start + lengths[0])]
    for (before, length), over in zip(itertools.pairwise(lengths), scene.over[1:], strict=True):
        end = spans[-1][1]
        shared = round(rng.uniform(*_OVERLAP) * min(before, length))
        start = end - shared if over else end + _samples(rng, _GAP_SECONDS)
        spans.append((start, start + length))
    return spans


def _sound(event: Event, rng: np.random.Generator) -> Wave:
    if event.domain == "speech":
        return voices.say(rng, event.name, event.voice)
    if event.domain == "music":
        return music.melody(rng, event.name, event.key, event.tempo)
    return sounds.SOUNDS[event.name](rng, _samples(rng, _SOUND_SECONDS))


def _going_on(event: Event, length: int, rng: np.random.Generator) -> Wave:
    """A background of that length: a sound drawn out, or melodies of one kind after another."""
    if event.domain == "sound":
        return sounds.SOUNDS[event.name](rng, length)
    melodies: list[Wave] = []
    while sum(map(len, melodies)) < length:
        melodies.append(music.melody(rng, event.name, event.key, event.tempo))
    return fade(np.concatenate(melodies)[:length])


def _samples(rng: np.random.Generator, bounds: tuple[float, float]) -> int:
    return round(rng.uniform(*bounds) * SAMPLE_RATE)


def _placed(wave: Wave, start: int, length: int) -> Wave:
    placed = np.zeros(length)
    placed[start : start + len(wave)] = wave[: length - start]
    return placed


def _gain(wave: Wave, decibels: float) -> float:
    """The factor that brings a wave to a root mean square."""
    return 10 ** (decibels / 20) / np.sqrt(np.mean(wave**2))


def _annotate(scene: Scene, spans: tuple[tuple[int, int], ...], length: int) -> AudioAnnotation:
    duration = round(length / SAMPLE_RATE, 3)
    spoken = dict.fromkeys(event.voice for event in scene.events if event.voice)
    ids = {voice: chr(ord("A") + place) for place, voice in enumerate(spoken)}
    seconds = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in spans]
    timed: list[tuple[Event, tuple[float, float], float | None]] = [
        (event, span, None) for event, span in zip(scene.events, seconds, strict=True)
    ]
    if scene.background:
        timed.insert(0, (scene.background, (0.0, duration), scene.snr))
    turns, heard, passages = [], [], []
    for event, (start, end), snr in timed:
        start, end = round(start, 3), round(end, 3)
        if event.domain == "speech":
            turns.append(Turn(ids[event.voice], start, end, event.name))
        elif event.domain == "sound":
            heard.append(SoundEvent(event.name, start, end, event.level if snr is None else None, snr))
        else:
            passages.append(Music(start, end, event.key, event.tempo, (event.name,), snr=snr))
    present = {event.domain for event, *_ in timed}
    return AudioAnnotation(
        duration=duration,
        turns=tuple(turns),
        speakers=tuple(Speaker(id, voice=(voice,)) for voice, id in ids.items()),
        sounds=tuple(heard),
        music=tuple(passages),
        acoustics=Acoustics(
            room=scene.room,
            noise=scene.noise,
            snr=NOISE_SNRS[scene.noise],
            reverberation=ROOM_SECONDS[scene.room],
        ),
        absent=tuple(name for name in ("speech", "music") if name not in present),
    )
