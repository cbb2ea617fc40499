"""What happens in a scene: events that may overlap, a background, a room, a noise. Held out are layouts by a rule."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from bagpiper_jax.captions.lexicon import ROOM_SECONDS
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.embedded import music, sounds
from bagpiper_jax.corpora.embedded.scenes import Event
from bagpiper_jax.corpora.soundscapes import sentences
from bagpiper_jax.corpora.soundscapes.voices import VOICES

BACKGROUND_SOUNDS = ("rain", "wind", "engine", "clock", "bird")
BACKGROUND_SNRS = (5.0, 12.0, 20.0)
"""Decibels of a background below speech."""
NOISE_SNRS = {"hardly any hiss": 50.0, "a faint hiss": 30.0, "a loud hiss": 18.0}

_MASKING = ("rain", "wind")  # behind which no hiss is heard
_COUNTS = {1: 0.25, 2: 0.45, 3: 0.3}
_DOMAINS = {"speech": 0.5, "sound": 0.3, "music": 0.2}
_BACKGROUNDS = {"": 0.5, "sound": 0.35, "music": 0.15}
_OVERLAPPING = 0.45
_HELD_OUT_EVERY = 10  # layouts


@dataclasses.dataclass(frozen=True)
class Scene:
    """A plan.

    Attributes:
        events: what happens in order; the name of speech is its sentence.
        over: of each event, whether it begins while the one before goes on; never of two neighbours.
        background: what goes on under them all the while, or None.
        snr: decibels of the background below speech.
        room, noise: of `ROOM_SECONDS` and `NOISE_SNRS`.
    """

    events: tuple[Event, ...]
    over: tuple[bool, ...]
    background: Event | None
    snr: float
    room: str
    noise: str

    @property
    def layout(self) -> tuple:
        """Kind of the background, kinds of the events in order, and which overlap."""
        return self.background and self.background.kind, tuple(e.kind for e in self.events), self.over

    @property
    def is_speech_alone(self) -> bool:
        return self.background is None and all(event.domain == "speech" for event in self.events)

    @property
    def combination(self) -> tuple:
        """What is new in a held-out scene: its sentences if it is speech alone, else its layout."""
        return tuple(event.name for event in self.events) if self.is_speech_alone else self.layout

    @property
    def domain(self) -> str:
        """The domain that everything shares, or "mixed"."""
        domains = {event.domain for event in (*self.events, *filter(None, [self.background]))}
        return domains.pop() if len(domains) == 1 else "mixed"


def is_held_out(scene: Scene) -> bool:
    """Whether validation and test keep its layout: a tenth of those with two parts or more, by their digest."""
    if scene.is_speech_alone or (scene.background is None and len(scene.events) == 1):
        return False
    return int(assembly.digest(scene.layout), 16) % _HELD_OUT_EVERY == 0


def training_scenes(rng: np.random.Generator, count: int) -> Iterator[Scene]:
    """Scenes of other layouts and other sentences than any held-out scene has."""
    drawn = (_draw(rng, held_out=False) for _ in itertools.count())
    return itertools.islice((scene for scene in drawn if not is_held_out(scene)), count)


def held_out_scenes(rng: np.random.Generator, count: int) -> list[Scene]:
    """Scenes of distinct combinations, with held-out sentences and, unless they are speech alone, layouts."""
    found: dict[tuple, Scene] = {}
    while len(found) < count:
        scene = _draw(rng, held_out=True)
        # Speech alone is always of held-out sentences; a tenth of it, as of layouts, keeps the shares of training.
        if is_held_out(scene) or (scene.is_speech_alone and rng.random() < 1 / _HELD_OUT_EVERY):
            found.setdefault(scene.combination, scene)
    return list(found.values())


def _draw(rng: np.random.Generator, held_out: bool) -> Scene:
    background, snr = _draw_background(rng), _pick(rng, BACKGROUND_SNRS)
    events: list[Event] = []
    over: list[bool] = []
    for _ in range(_pick_by_share(rng, _COUNTS)):
        above = bool(events) and not over[-1] and rng.random() < _OVERLAPPING
        if above and events[-1].level == "loud":
            events[-1] = dataclasses.replace(events[-1], level="medium")  # or it would drown what is over it
        event = _draw_event(rng, events[-1:], background, above, held_out)
        if event.domain == "sound":
            levels = ("medium", *["loud"] * (not above), *["soft"] * (background is None or snr > 5))
            event = dataclasses.replace(event, level=_pick(rng, levels))
        events.append(event)
        over.append(above)
    noises = list(NOISE_SNRS)[:1] if background and background.kind in _MASKING else list(NOISE_SNRS)
    room, noise = _pick(rng, ROOM_SECONDS), _pick(rng, noises)
    return Scene(tuple(events), tuple(over), background, snr, room, noise)


def _draw_background(rng: np.random.Generator) -> Event | None:
    domain = _pick_by_share(rng, _BACKGROUNDS)
    if domain == "music":
        return _melody(rng)
    return Event("sound", _pick(rng, BACKGROUND_SOUNDS)) if domain else None


def _draw_event(
    rng: np.random.Generator, before: list[Event], background: Event | None, above: bool, held_out: bool
) -> Event:
    """An event that can be told from its neighbour and the background; no voice speaks twice at once."""
    around = [*before, *filter(None, [background])]
    while True:
        domain = _pick_by_share(rng, _DOMAINS)
        if domain == "speech":
            event = Event("speech", sentences.draw(rng, held_out).text, voice=_pick(rng, VOICES))
            clear = not (above and before[0].voice == event.voice)
        elif domain == "sound":
            event = Event("sound", _pick(rng, sounds.SOUNDS))
            clear = event.kind not in {other.kind for other in around}
        else:
            event = _melody(rng)
            clear = "music" not in {other.domain for other in around}
        if clear:
            return event


def _melody(rng: np.random.Generator) -> Event:
    tempo = _pick(rng, music.TEMPOS)
    return Event("music", _pick(rng, music.INSTRUMENTS), key=_pick(rng, music.KEYS), tempo=tempo)


def _pick(rng: np.random.Generator, options):
    options = list(options)
    return options[rng.integers(len(options))]


def _pick_by_share(rng: np.random.Generator, shares: dict):
    options = list(shares)
    return options[rng.choice(len(options), p=list(shares.values()))]
