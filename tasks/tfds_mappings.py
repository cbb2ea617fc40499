"""What data sets of TFDS say of their clips, as annotations.

A new one is two functions and a `TfdsMapping`, as `docs/mixtures.md` shows; say only what the data set states.
"""

import dataclasses
from collections.abc import Callable

from bagpiper_jax.captions import AudioAnnotation, Music, SoundEvent, Speaker, Turn
from bagpiper_jax.outcomes import RecordError

Labels = Callable[[str, int], str]
"""Name of a feature (`instrument/family`) and number of a class → the name of the class."""


@dataclasses.dataclass(frozen=True)
class TfdsMapping:
    """How a data set's examples are read.

    Attributes:
        audio: name of the audio feature.
        annotate: (example as NumPy, seconds, labels) → what is known of the clip.
        identify: example → (id, group); a blank id takes TFDS's own, a blank group is the clip alone.
        domain, language, licence: of all clips.
    """

    audio: str
    annotate: Callable[[dict, float, Labels], AudioAnnotation]
    identify: Callable[[dict], tuple[str, str]]
    domain: str
    language: str = "en"
    licence: str = "unknown"


def _text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return " ".join(text.split())


def spoken(text: object, seconds: float, speaker: Speaker = Speaker("speaker")) -> AudioAnnotation:
    """One speaker saying a text. Raises RecordError: it is blank."""
    words = _text(text)
    if not words:
        raise RecordError("empty_text", "the transcript is blank", "leave the clip out")
    return AudioAnnotation(seconds, turns=(Turn(speaker.id, 0.0, seconds, words),), speakers=(speaker,))


def _librispeech(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    return spoken(_text(example["text"]).lower(), seconds)  # transcripts come in capitals


def _speaker_id(example: dict) -> tuple[str, str]:
    return _text(example["id"]), f"speaker-{_text(example['speaker_id'])}"


def _libritts(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    return spoken(example["text_normalized"], seconds)


def _ljspeech(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    return spoken(example["text_normalized"], seconds, Speaker("speaker", gender="female"))


def _one_speaker(example: dict) -> tuple[str, str]:
    return _text(example["id"]), "ljspeech"


def _vctk(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    gender = {"F": "female", "M": "male"}[labels("gender", example["gender"])]
    accent = labels("accent", example["accent"])
    return spoken(
        example["text"], seconds, Speaker("speaker", gender, accent=None if accent == "Unknown" else accent)
    )


def _vctk_speaker(example: dict) -> tuple[str, str]:
    return _text(example["id"]), f"speaker-{int(example['speaker'])}"


def _speech_commands(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    word = labels("label", example["label"])
    if word == "_silence_":
        return AudioAnnotation(
            seconds, sounds=(SoundEvent("background noise", 0.0, seconds),), absent=("speech",)
        )
    if word == "_unknown_":
        return AudioAnnotation(seconds, sounds=(SoundEvent("spoken word", 0.0, seconds),))
    return spoken(word, seconds)


def _gtzan(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    return AudioAnnotation(seconds, music=(Music(0.0, seconds, genre=labels("label", example["label"])),))


def _gtzan_track(example: dict) -> tuple[str, str]:
    return _text(example["audio/filename"]), ""


def _nsynth(example: dict, seconds: float, labels: Labels) -> AudioAnnotation:
    family = labels("instrument/family", example["instrument"]["family"]).replace("_", " ")
    return AudioAnnotation(seconds, music=(Music(0.0, seconds, instruments=(family,)),))


def _nsynth_instrument(example: dict) -> tuple[str, str]:
    return _text(example["id"]), f"instrument-{int(example['instrument']['label'])}"


def _nameless(example: dict) -> tuple[str, str]:
    return "", ""


LIBRISPEECH = TfdsMapping("speech", _librispeech, _speaker_id, "speech", licence="CC-BY-4.0")
LIBRITTS = TfdsMapping("speech", _libritts, _speaker_id, "speech", licence="CC-BY-4.0")
LJSPEECH = TfdsMapping("speech", _ljspeech, _one_speaker, "speech", licence="public domain")
VCTK = TfdsMapping("speech", _vctk, _vctk_speaker, "speech", licence="CC-BY-4.0")
SPEECH_COMMANDS = TfdsMapping("audio", _speech_commands, _nameless, "speech", licence="CC-BY-4.0")
GTZAN = TfdsMapping("audio", _gtzan, _gtzan_track, "music")
NSYNTH = TfdsMapping("audio", _nsynth, _nsynth_instrument, "music", licence="CC-BY-4.0")
