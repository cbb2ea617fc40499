"""From annotation to rich caption, in the two styles of the release.

See docs/reference.md, Rich captions and Tuning dialogues.

"flowing" is a description in sentences that ends in a summary paragraph; "attributes" lists speaker turns with
times, transcript, speakers, sounds, music, acoustics and what is absent. Wording varies with the random
generator; `parse_caption` reads every variant back.
"""

import numpy as np

from bagpiper_jax.captions import lexicon
from bagpiper_jax.captions.annotation import (
    Acoustics,
    AudioAnnotation,
    Music,
    SoundEvent,
    Speaker,
    Turn,
    is_background,
)
from bagpiper_jax.captions.lexicon import listing, number_word, quoted, with_article

STYLES = ("flowing", "attributes")

FIRST = ("It opens with", "It begins with")
MIDDLE = ("Then comes", "Next is")
LAST = ("It ends with", "Last comes")
ONLY = ("It holds only", "All that is heard is")
OVERLAPPING = "Over it sounds"
BEHIND = "in the background one hears"
ABSENT = "There is no"
OVERLAP_SECONDS = 0.1


def describe(
    annotation: AudioAnnotation, style: str = "flowing", rng: np.random.Generator | None = None
) -> str:
    """Writes the rich caption of a clip.

    Args:
        style: one of `STYLES`.
        rng: chooses among wordings; None takes the first of each.
    """
    if style == "flowing":
        return _flowing(annotation, rng)
    if style == "attributes":
        return _attributes(annotation)
    raise ValueError(f"style {style!r} is none of {', '.join(STYLES)}")


def kind(event: Turn | SoundEvent | Music) -> str:
    """What an event is called in a list: "speech", a sound's label, or the instruments."""
    if isinstance(event, Turn):
        return lexicon.SPEECH
    if isinstance(event, SoundEvent):
        return event.label
    return listing(event.instruments) if event.instruments else lexicon.UNNAMED_INSTRUMENT


def _choose(options: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return options[0] if rng is None else options[rng.integers(len(options))]


def overlaps(event: Turn | SoundEvent | Music, earlier: Turn | SoundEvent | Music) -> bool:
    """Whether an event begins well before an earlier one ends."""
    return event.start < earlier.end - OVERLAP_SECONDS


def _flowing(annotation: AudioAnnotation, rng) -> str:
    events, under = annotation.foreground(), annotation.background()
    sentences = [_opening(annotation.acoustics, rng)]
    for event in under:
        sentences.append(f"{strength(event).capitalize()} {BEHIND} {background_phrase(event, rng)}.")
    for place, event in enumerate(events):
        sentences.append(
            f"{_connective(events, place, rng, bool(under))} {noun_phrase(event, annotation, rng)}."
        )
    if annotation.absent:
        sentences.append(f"{ABSENT} {' or '.join(annotation.absent)}.")
    return " ".join(sentences) + "\n\n" + _summary(events, rng)


def _opening(acoustics: Acoustics, rng) -> str:
    noise = acoustics.noise and f"with {acoustics.noise}"
    room = acoustics.room and f"in {acoustics.room}"
    details = " ".join(filter(None, (room, noise)))
    quality = acoustics.quality
    if quality and _choose(("noun", "adjective"), rng) == "adjective":
        return f"The recording is {quality}{details and ', ' + details}."
    return (
        with_article(f"{quality + ' ' if quality else ''}recording").capitalize()
        + f"{details and ' ' + details}."
    )


def _connective(events, place: int, rng, behind: bool) -> str:
    if place and overlaps(events[place], events[place - 1]):
        return OVERLAPPING
    if len(events) == 1 and not behind:
        return _choose(ONLY, rng)
    if place == 0:
        return _choose(FIRST, rng)
    return _choose(LAST if place == len(events) - 1 else MIDDLE, rng)


def noun_phrase(
    event: Turn | SoundEvent | Music, annotation: AudioAnnotation, rng: np.random.Generator | None = None
) -> str:
    """One event with its article, e.g. "a loud barking dog" or `a low-pitched voice saying "two"`."""
    if isinstance(event, Turn):
        return _speech(event, annotation.speaker(event.speaker), rng)
    return _sound(event, rng) if isinstance(event, SoundEvent) else _music(event, rng)


def background_phrase(event: SoundEvent | Music, rng: np.random.Generator | None = None) -> str:
    """What goes on under the rest, e.g. "falling rain"."""
    if isinstance(event, Music):
        return _music(event, rng)
    return lexicon.BACKGROUND_NOUNS.get(event.label, f"the sound of {event.label}")


def strength(background: SoundEvent | Music) -> str:
    """How a background is heard: one of `lexicon.STRENGTHS`."""
    return lexicon.strength_word(background.snr or 0.0)


def _sound(sound: SoundEvent, rng) -> str:
    noun = _choose(lexicon.SOUND_NOUNS.get(sound.label, (f"sound of {sound.label}",)), rng)
    return with_article(noun if sound.level in (None, "medium") else f"{sound.level} {noun}")


def _music(music: Music, rng) -> str:
    tempo = lexicon.tempo_word(music.tempo) if music.tempo else ""
    key = f" in {music.key}" if music.key else ""
    if not music.instruments:
        return f"{with_article(_join((tempo, 'passage of', music.genre, 'music')))}{key}"
    genre = f", in {music.genre} style" if music.genre else ""
    if _choose(("melody", "playing"), rng) == "playing":
        return f"{with_article(kind(music))} playing {_join((tempo, 'notes'))}{key}{genre}"
    return f"{with_article(_join((tempo, kind(music), 'melody')))}{key}{genre}"


def _speech(turn: Turn, speaker: Speaker, rng) -> str:
    language = "" if turn.language == "en" else f" in {lexicon.LANGUAGES.get(turn.language, turn.language)}"
    verb = _choose(("saying", "that says"), rng)
    return f"{voice(speaker)} {verb}{language} {quoted(turn.text)}"


def voice(speaker: Speaker) -> str:
    """E.g. "a low-pitched adult male voice with a British accent"."""
    accent = f" with {with_article(speaker.accent)} accent" if speaker.accent else ""
    return with_article(_join((*speaker.voice, speaker.age or "", speaker.gender or "", "voice"))) + accent


def _join(words) -> str:
    return " ".join(filter(None, words))


def _summary(events, rng) -> str:
    if not events:
        return "In summary, no event is heard."
    count = f"{number_word(len(events))} event{'s' * (len(events) > 1)}"
    lead = _choose((f"the clip holds {count}", f"{count} can be heard"), rng)
    return f"In summary, {lead}: {', then '.join(kind(event) for event in events)}."


def _attributes(annotation: AudioAnnotation) -> str:
    acoustics = annotation.acoustics
    recording = (
        ("room", acoustics.room), ("noise", acoustics.noise), ("quality", acoustics.quality),
    )  # fmt: skip
    rows = {
        "Duration": [f"{annotation.duration:.1f} s"],
        "Speaker turns": [f"{_times(t)} {t.speaker}" + _language(t) for t in annotation.turns],
        "Transcript": [f"{t.speaker} {quoted(t.text)}" for t in annotation.turns],
        "Speakers": [f"{speaker.id} {voice(speaker)}" for speaker in annotation.speakers],
        "Sound events": [
            _times(s) + f" {s.label}" + (f", {s.level}" if s.level else "")
            for s in annotation.sounds
            if not is_background(s)
        ],
        "Music": [_music_attributes(m) for m in annotation.music if not is_background(m)],
        "Background sounds": [
            f"{_times(s)} {s.label}, {strength(s)}" for s in annotation.sounds if is_background(s)
        ],
        "Background music": [
            f"{_music_attributes(m)}, {strength(m)}" for m in annotation.music if is_background(m)
        ],
        "Acoustics": [f"{name} {value}" for name, value in recording if value],
        "Absent": list(annotation.absent),
    }
    return "\n".join(f"{name}: {'; '.join(items)}." for name, items in rows.items() if items)


def _times(event) -> str:
    return f"{event.start:.1f}-{event.end:.1f} s"


def _language(turn: Turn) -> str:
    return "" if turn.language == "en" else f" ({turn.language})"


def _music_attributes(music: Music) -> str:
    tempo = f"{music.tempo:g} beats per minute" if music.tempo else ""
    details = (kind(music), music.genre and f"genre {music.genre}", music.key and f"key {music.key}", tempo)
    return f"{_times(music)} " + ", ".join(filter(None, details))
