"""From what a package says and what was measured to an annotation; nothing is asserted that neither supports."""

import numpy as np

from bagpiper_jax.captions import Acoustics, AudioAnnotation, Music, SoundEvent, Speaker, Turn
from bagpiper_jax.corpora.debian.measure import Measurement
from bagpiper_jax.corpora.debian.recordings import VOICES, Recording
from bagpiper_jax.corpora.debian.scores import Rendering

_LOUD, _SOFT = -17.0, -30.0  # dBFS of the active frames
_STRONG, _QUIET = -12.0, -28.0  # dBFS of the active frames of music
_DARK, _BRIGHT = 350.0, 3000.0  # Hz
_FLOORS = (
    (-70.0, "a nearly silent background"),
    (-55.0, "a very quiet background"),
    (-45.0, "a quiet background"),
    (-35.0, "a slightly noisy background"),
    (np.inf, "a noisy background"),
)
_PITCHES = {"male": (110.0, 165.0), "female": (170.0, 225.0)}


def annotate(
    recording: Recording, measured: Measurement, rendering: Rendering | None = None
) -> AudioAnnotation:
    """The annotation of a clip.

    Args:
        rendering: the truth about a rendered score, for recordings of kind "score".
    """
    start, end = round(measured.start, 3), round(measured.end, 3)
    facts = {"acoustics": Acoustics(quality=_quality(recording, measured))}
    if recording.kind == "speech":
        speaker = _speaker(recording, measured)
        facts = {
            "turns": (Turn(speaker.id, start, end, recording.label, recording.language),),
            "speakers": (speaker,),
            "acoustics": Acoustics(noise=_background(measured)),
        }
    elif rendering is not None:
        passage = Music(start, end, rendering.key, rendering.tempo, rendering.instruments, rendering.genre)
        facts["music"] = (passage,)
    elif recording.kind == "music":
        is_track = bool(recording.seconds)  # of a track the genre is known, of a sample the instrument
        facts["music"] = (
            Music(start, end, genre=recording.label)
            if is_track
            else Music(start, end, instruments=(recording.label,)),
        )
    else:
        facts["sounds"] = (SoundEvent(recording.label, start, end, _level(measured)),)
    return AudioAnnotation(duration=round(measured.seconds, 3), **facts)


def _speaker(recording: Recording, measured: Measurement) -> Speaker:
    voice = VOICES[recording.voice]
    return Speaker(voice.name, voice.gender, None, voice.accent, _pitch_words(voice.gender, measured.pitch))


def _pitch_words(gender: str, pitch: float | None) -> tuple[str, ...]:
    low, high = _PITCHES[gender]
    if pitch is None or low <= pitch <= high:
        return ()
    return ("low-pitched",) if pitch < low else ("high-pitched",)


def _background(measured: Measurement) -> str | None:
    """In words, the level of the pauses relative to speech at -20 dBFS; None where there is no pause to measure."""
    if measured.floor is None:
        return None
    relative = measured.floor - measured.level - 20.0
    return next(words for bound, words in _FLOORS if relative < bound)


def _level(measured: Measurement) -> str:
    if measured.level > _LOUD:
        return "loud"
    return "soft" if measured.level < _SOFT else "medium"


def _quality(recording: Recording, measured: Measurement) -> str | None:
    """Loudness of music and brightness of sounds and music, as adjectives; None for what is ordinary."""
    words = []
    if recording.domain == "music" and not _QUIET < measured.level < _STRONG:
        words.append("quiet" if measured.level <= _QUIET else "loud")
    if not _DARK < measured.centroid < _BRIGHT:
        words.append("dark" if measured.centroid <= _DARK else "bright")
    return " and ".join(words) or None
