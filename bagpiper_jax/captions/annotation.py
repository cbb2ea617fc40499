"""What is known of a clip, as data: the source of its captions, questions and requests."""

import dataclasses
import difflib
import math
import types
import typing

from bagpiper_jax import strict
from bagpiper_jax.captions.markup import control_token_in
from bagpiper_jax.errors import Explained

LEVELS = ("loud", "medium", "soft")
_TOLERANCE = 0.05  # seconds that an event may end after its clip: codecs and resamplers shift ends

_SHORTEST = 0.1
"""Seconds of an event that are worth telling in a part of its clip."""


class AnnotationError(Explained, ValueError):
    """An annotation that contradicts itself or has an unknown or ill-typed field; the message names it."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """A stretch of speech by one speaker: the id of a `Speaker`, seconds, and the words said."""

    speaker: str
    start: float
    end: float
    text: str
    language: str = "en"


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A voice. What is unknown is None; `voice` holds adjectives such as "low-pitched"."""

    id: str
    gender: str | None = None
    age: str | None = None
    accent: str | None = None
    voice: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SoundEvent:
    """An environmental sound: a label such as "dog bark", seconds, and one of `LEVELS` or None.

    One with an `snr` is a background: it goes on under the rest, that many decibels below speech.
    """

    label: str
    start: float
    end: float
    level: str | None = None
    snr: float | None = None


@dataclasses.dataclass(frozen=True)
class Music:
    """A musical passage: seconds, key such as "C major", tempo in beats per minute, instruments, genre.

    `snr` as of a `SoundEvent`.
    """

    start: float
    end: float
    key: str | None = None
    tempo: float | None = None
    instruments: tuple[str, ...] = ()
    genre: str | None = None
    snr: float | None = None


@dataclasses.dataclass(frozen=True)
class Acoustics:
    """Where and how a clip was recorded, in words: the room, the background noise, the quality.

    The numbers are known where a clip was mixed from known parts: how many decibels the noise lies below speech, and
    in how many seconds the room's sound dies away by 60 dB. Times and levels of such a clip are exact.
    """

    room: str | None = None
    noise: str | None = None
    quality: str | None = None
    snr: float | None = None
    reverberation: float | None = None


@dataclasses.dataclass(frozen=True)
class AudioAnnotation:
    """Everything known of one clip. Construction checks consistency.

    Attributes:
        duration: seconds.
        turns, speakers: who speaks when and says what; every turn's speaker is listed.
        sounds: environmental sounds.
        music: musical passages.
        acoustics: the recording.
        absent: what is certainly not heard, e.g. ("speech", "music"); empty means unknown, not present.
    """

    duration: float
    turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    sounds: tuple[SoundEvent, ...] = ()
    music: tuple[Music, ...] = ()
    acoustics: Acoustics = Acoustics()
    absent: tuple[str, ...] = ()

    def __post_init__(self):
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise AnnotationError(f"duration must be positive seconds, got {self.duration}")
        for event in self.events():
            if not 0 <= event.start < event.end <= self.duration + _TOLERANCE:
                raise AnnotationError(
                    f"{_name(event)} from {event.start:g} to {event.end:g} s does not lie in "
                    f"a clip of {self.duration:g} s"
                )
        for passage in self.music:
            if passage.tempo is not None and not (math.isfinite(passage.tempo) and passage.tempo > 0):
                raise AnnotationError(f"tempo must be positive beats per minute, got {passage.tempo}")
        self._check_speakers()
        for sound in self.sounds:
            if not sound.label.strip():
                raise AnnotationError("a sound's label is blank")
            if sound.level not in (None, *LEVELS):
                raise AnnotationError(
                    f"level {sound.level!r} of {sound.label!r} is none of {', '.join(LEVELS)}"
                )

    def _check_speakers(self) -> None:
        known = [speaker.id for speaker in self.speakers]
        if len(set(known)) != len(known):
            raise AnnotationError(f"speaker ids repeat: {', '.join(known)}")
        for turn in self.turns:
            if turn.speaker not in known:
                raise AnnotationError(
                    f"turn at {turn.start:g} s names speaker {turn.speaker!r}; known: {', '.join(known) or 'none'}"
                )

    def events(self) -> tuple[Turn | SoundEvent | Music, ...]:
        """All turns, sounds and passages in order of their onset."""
        return tuple(sorted((*self.turns, *self.sounds, *self.music), key=lambda event: event.start))

    def background(self) -> tuple[SoundEvent | Music, ...]:
        """The sounds and passages that go on under the rest."""
        return tuple(e for e in self.events() if not isinstance(e, Turn) and is_background(e))

    def foreground(self) -> tuple[Turn | SoundEvent | Music, ...]:
        """All other events in order of their onset."""
        return tuple(e for e in self.events() if isinstance(e, Turn) or not is_background(e))

    def speaker(self, id: str) -> Speaker:
        """The speaker of that id."""
        return next(speaker for speaker in self.speakers if speaker.id == id)

    def part(self, start: float, end: float) -> "AudioAnnotation":
        """What is known of the clip from `start` to `end`, in seconds, with its times counted from `start`.

        Sounds and music are cut with the clip, and those of which less than 0.1 s is left are left out; speech is
        whole or absent, since nobody knows which of its words fall where.

        Raises:
            AnnotationError: somebody speaks across one of its ends.
        """
        turns = [each for turn in self.turns if (each := _within(turn, start, end))]
        said = {turn.speaker for turn in turns}
        for turn in self.turns:
            overhang = max(start - turn.start, turn.end - end)
            if turn.start < end and turn.end > start and overhang > _TOLERANCE:
                raise AnnotationError(
                    f"somebody speaks from {turn.start:g} to {turn.end:g} s, across an end of the part from "
                    f"{start:g} to {end:g} s"
                )
        return dataclasses.replace(
            self,
            duration=round(end - start, 6),
            turns=tuple(turns),
            speakers=tuple(speaker for speaker in self.speakers if speaker.id in said),
            sounds=tuple(each for sound in self.sounds if (each := _within(sound, start, end))),
            music=tuple(each for passage in self.music if (each := _within(passage, start, end))),
        )

    def to_json(self) -> dict:
        """A JSON object without the fields that are unset; `from_json` inverts it."""
        return _dump(self)

    @classmethod
    def from_json(cls, value: dict) -> "AudioAnnotation":
        """Reads `to_json`'s form.

        Raises:
            AnnotationError: a field is unknown (the nearest is suggested), missing or of the wrong type, or the
                annotation is inconsistent.
        """
        return _load(cls, value, "annotation")


def _within(event, start: float, end: float):
    """The event as it falls into a part; None where hardly any of it does."""
    begin, stop = max(event.start, start), min(event.end, end)
    if stop - begin < min(_SHORTEST, event.end - event.start - 1e-9):
        return None
    return dataclasses.replace(event, start=round(begin - start, 6), end=round(stop - start, 6))


def is_background(event: SoundEvent | Music) -> bool:
    """Whether an event goes on under the rest."""
    return event.snr is not None


def _name(event) -> str:
    return {Turn: "a speaker turn", SoundEvent: "a sound", Music: "music"}[type(event)]


def _dump(value):
    if dataclasses.is_dataclass(value):
        items = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _dump(item) for f, item in items if item is not None and item != f.default}
    return [_dump(item) for item in value] if isinstance(value, tuple) else value


def _load(kind, value, where: str):
    """Builds `kind` (a dataclass, a tuple, a scalar or an optional scalar) from JSON, checking types."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise AnnotationError(f"{where} must be a list, got {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_load(item, element, f"{where}[{i}]") for i, element in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _load_object(kind, value, where)
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in allowed and type(value) in (int, float):
        return _finite(value, where)
    if type(value) not in allowed:
        names = " or ".join(getattr(t, "__name__", str(t)) for t in allowed)
        raise AnnotationError(f"{where} must be {names}, got {value!r}")
    if isinstance(value, str) and (bad := strict.unusable(value)):
        raise AnnotationError(f"{where} holds the character {bad}; remove control characters")
    if isinstance(value, str) and (token := control_token_in(value)):
        raise AnnotationError(f"{where} holds {token!r}; take the marks of a recogniser or chat template out")
    return value


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise AnnotationError(f"{where} must be a finite number, got {str(value)[:40]}")
    return number


def _load_object(kind, value, where: str):
    if not isinstance(value, dict):
        raise AnnotationError(f"{where} must be an object, got {value!r}")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            raise AnnotationError(
                f"{where} has no field {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    required = (f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING)
    if missing := [name for name in required if name not in value]:
        raise AnnotationError(f"{where} lacks {', '.join(missing)}")
    return kind(**{key: _load(fields[key], item, f"{where}.{key}") for key, item in value.items()})
