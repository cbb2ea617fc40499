"""Questions about a clip that was mixed from known parts: who speaks, what overlaps, what lies behind, how it sounds.

They are asked only where the annotation has the numbers of `Acoustics`: elsewhere times are too rough to say what
overlaps, and silence about a room or a background is not their absence.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.captions.lexicon import listing, number_word, quoted
from bagpiper_jax.captions.prose import kind, overlaps, strength, voice

ECHO_SECONDS = 0.8
"""The least time of reverberation that one hears as an echo."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A question, its answer, and the fact that answers it; `topic` names the kind of question for scoring."""

    topic: str
    question: str
    evidence: str
    answer: str


def about_the_mix(annotation: AudioAnnotation) -> list[Question]:
    """Every such question that the annotation answers, in a fixed order."""
    if annotation.acoustics.reverberation is None:
        return []
    return [
        *_about_voices(annotation),
        *_about_overlap(annotation),
        *_about_background(annotation),
        *_about_recording(annotation),
    ]


def _about_voices(annotation: AudioAnnotation) -> Iterator[Question]:
    """Of two voices or more that are told apart: which is first, which says what, what each says."""
    turns = sorted(annotation.turns, key=lambda turn: turn.start)
    voices = {turn.speaker: _name(annotation, turn.speaker) for turn in turns}
    if len(set(voices.values())) < max(2, len(voices)):
        return
    first = voices[turns[0].speaker]
    yield Question("voice_first", "Which voice speaks first?", f"the first to speak is {first}", f"{first}.")
    for turn in turns:
        if sum(other.text == turn.text for other in turns) == 1:
            asked = f"Which voice says {quoted(turn.text)}?"
            yield Question(
                "voice", asked, f"it is said by {voices[turn.speaker]}", f"{voices[turn.speaker]}."
            )
    for id, name in voices.items():
        said = ", then ".join(quoted(turn.text) for turn in turns if turn.speaker == id)
        yield Question("voice_words", f"What does {name} say?", f"{name} says {said}", f"{said}.")


def _name(annotation: AudioAnnotation, id: str) -> str:
    return "the " + voice(annotation.speaker(id)).partition(" ")[2]


def _about_overlap(annotation: AudioAnnotation) -> Iterator[Question]:
    """How many events sound together with another one."""
    heard = annotation.foreground()
    pairs = [
        pair
        for pair in itertools.combinations(range(len(heard)), 2)
        if overlaps(heard[pair[1]], heard[pair[0]])
    ]
    together = sorted({place for pair in pairs for place in pair})
    if not together:
        yield Question("overlap", "How many events overlap?", "each is heard alone", "None.")
        return
    names = listing(kind(heard[place]) for place in together)
    count = number_word(len(together)).capitalize()
    yield Question("overlap", "How many events overlap?", f"{names} sound together", f"{count}.")


def _about_background(annotation: AudioAnnotation) -> Iterator[Question]:
    asked, under = "What is heard in the background?", annotation.background()
    if not under:
        yield Question("background", asked, "nothing goes on behind the events", "Nothing.")
        return
    names = listing(kind(event) for event in under)
    yield Question("background", asked, f"behind the events goes on {names}", f"{names.capitalize()}.")
    if len(under) == 1:
        how = strength(under[0])
        yield Question(
            "strength", "How is the background heard?", f"it is heard {how}", f"{how.capitalize()}."
        )


def _about_recording(annotation: AudioAnnotation) -> Iterator[Question]:
    acoustics = annotation.acoustics
    if acoustics.noise:
        noise = acoustics.noise
        yield Question("noise", "How noisy is the recording?", f"it has {noise}", f"{noise.capitalize()}.")
    rings = (acoustics.reverberation or 0.0) >= ECHO_SECONDS
    where = f"it sounds like {acoustics.room}" if acoustics.room else "the sound of the room tells"
    yield Question("echo", "Is there an echo?", where, "Yes." if rings else "No.")
