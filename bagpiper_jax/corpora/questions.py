"""Caption-guided fine-tuning dialogues from annotations (docs/reference.md, Tuning dialogues).

Understanding: audio, question → caption, reasoning under five heads, answer. Generation: request → reasoning
under four heads, caption, audio. Requests are realistic (everything is said) or imaginary (a scenario that leaves
details to be inferred). Only what an annotation states is asked: silence about a thing is not its absence.
"""

import dataclasses
import itertools

import numpy as np

from bagpiper_jax.captions import AudioAnnotation, describe
from bagpiper_jax.captions.lexicon import TEMPO_WORDS, listing, number_word, quoted, tempo_word
from bagpiper_jax.captions.prose import background_phrase, kind, noun_phrase, overlaps, strength
from bagpiper_jax.corpora.mix_questions import Question as Question
from bagpiper_jax.corpora.mix_questions import about_the_mix
from bagpiper_jax.errors import Explained
from bagpiper_jax.manifest import Clip
from bagpiper_jax.text import THINK_TOKENS

CAPTION_LEAD = "Caption of the audio: "
UNDERSTANDING_HEADS = (
    "User Intent", "Evidence & Salient Audio Cues", "Inferred Details (Assumptions)", "Answering Plan", "Self-Check",
)  # fmt: skip
GENERATION_HEADS = ("User Intent", "Inferred Details", "Audio Quality", "Generation Plan")
REQUEST_STYLES = ("realistic", "imaginary")

DialogueJson = list[list[str]]


class QuestionError(Explained, ValueError):
    """A clip from which no dialogue can be made; names the clip and what it lacks."""


def questions(annotation: AudioAnnotation) -> list[Question]:
    """Every question that the annotation answers, in a fixed order."""
    return [
        *_about_events(annotation),
        *_about_speech(annotation),
        *_about_music(annotation),
        *_presence(annotation),
        *about_the_mix(annotation),
    ]


def _about_events(annotation: AudioAnnotation) -> list[Question]:
    heard = annotation.foreground()
    kinds = [kind(event) for event in heard]
    if not kinds:
        return []
    order, count = ", then ".join(kinds), number_word(len(kinds))
    aside = ", the background aside?" if annotation.background() else "?"
    asked = [
        Question(
            "count",
            f"How many events are heard{aside}",
            f"{count} are heard: {order}",
            f"{count.capitalize()}.",
        ),
        Question(
            "first", f"What is heard first{aside}", f"it begins with {kinds[0]}", f"First comes {kinds[0]}."
        ),
        Question(
            "last", f"What is heard last{aside}", f"it ends with {kinds[-1]}", f"Last comes {kinds[-1]}."
        ),
        Question(
            "order",
            f"In which order do the events come{aside}",
            f"heard are {order}",
            f"{order.capitalize()}.",
        ),
    ]
    if any(event.end > heard[-1].end for event in heard):  # what begins last is not what is heard last
        return [question for question in asked if question.topic != "last"]
    return asked


def _about_speech(annotation: AudioAnnotation) -> list[Question]:
    turns = sorted(annotation.turns, key=lambda turn: turn.start)
    if not turns:
        return []
    said = ", then ".join(quoted(turn.text) for turn in turns)
    return [Question("words", "What is said?", f"a voice says {said}", f"{said}.")]


def _about_music(annotation: AudioAnnotation) -> list[Question]:
    if len(annotation.music) != 1:
        return []
    music, asked = annotation.music[0], []
    if music.instruments:
        name = listing(music.instruments)
        asked.append(
            Question("instrument", "Which instrument plays?", f"the melody's sound is {name}", f"{name}.")
        )
    if music.key:
        asked.append(
            Question("key", "In which key is the melody?", f"its home is {music.key}", f"{music.key}.")
        )
    if music.tempo:
        word = tempo_word(music.tempo)
        options = f"{', '.join(TEMPO_WORDS[:-1])} or {TEMPO_WORDS[-1]}"
        asked.append(
            Question("tempo", f"Is the melody {options}?", f"its notes are {word}", f"It is {word}.")
        )
    return asked


def _presence(annotation: AudioAnnotation) -> list[Question]:
    present = {"speech": annotation.turns, "music": annotation.music}
    known = {name: bool(events) for name, events in present.items() if events or name in annotation.absent}
    return [
        Question(
            name,
            f"Is there any {name}?",
            f"{name} is {'present' if yes else 'absent'}",
            "Yes." if yes else "No.",
        )
        for name, yes in known.items()
    ]


def understanding_dialogue(clip: Clip, rng: np.random.Generator) -> DialogueJson:
    """One of `understanding_dialogues`, drawn. Raises QuestionError."""
    dialogues = understanding_dialogues(clip, rng)
    return dialogues[rng.integers(len(dialogues))]


def understanding_dialogues(clip: Clip, rng: np.random.Generator) -> list[DialogueJson]:
    """For each question [user audio, user question, assistant caption + reasoning + answer].

    Audio content is the clip's id.

    Raises:
        QuestionError: the clip has no annotation, or one that answers no question.
    """
    described = CAPTION_LEAD + _caption(clip, rng)
    return [
        [
            ["user", "audio", clip.id],
            ["user", "text", asked.question],
            ["assistant", "text", f"{described}\n\n{_reasoned_answer(asked)}"],
        ]
        for asked in _asked(clip)
    ]


def reading_dialogues(clip: Clip, rng: np.random.Generator) -> list[DialogueJson]:
    """For each question [user question, user caption, assistant reasoning + answer]: the reading without the hearing.

    The messages stand in the order of `understanding_dialogues`, so that what is learned of one holds in the other.

    Raises:
        QuestionError: the clip has no annotation, or one that answers no question.
    """
    described = CAPTION_LEAD + _caption(clip, rng)
    return [
        [
            ["user", "text", asked.question],
            ["user", "text", described],
            ["assistant", "text", _reasoned_answer(asked)],
        ]
        for asked in _asked(clip)
    ]


def _asked(clip: Clip) -> list[Question]:
    asked = questions(_annotation(clip))
    if not asked:
        raise QuestionError(f"clip {clip.id}: its annotation lists nothing to ask about")
    return asked


def _caption(clip: Clip, rng: np.random.Generator) -> str:
    return clip.caption or describe(_annotation(clip), "flowing", rng)


def _reasoned_answer(question: Question) -> str:
    """What follows the caption in a reply: the reasoning, then the answer."""
    thoughts = (
        f"{question.topic}.",
        f"{question.evidence}.",
        "none.",
        f"read the {question.topic} from the caption.",
        "the caption says so.",
    )
    return f"{_think(UNDERSTANDING_HEADS, thoughts, '-')}\n\n{question.answer}"


def generation_dialogue(
    clip: Clip, rng: np.random.Generator, system_prompt: str = "", style: str | None = None
) -> DialogueJson:
    """[system prompt if given, user request, assistant reasoning + caption, assistant audio].

    Args:
        system_prompt: a parameter of the task, never a constant (docs/reference.md, System prompt).
        style: one of `REQUEST_STYLES`; None draws one.

    Raises:
        QuestionError: the clip has no annotation, or one without events.
    """
    system = [["system", "text", system_prompt]] if system_prompt else []
    return [*system, *planning_dialogue(clip, rng, style), ["assistant", "audio", clip.id]]


def planning_dialogue(clip: Clip, rng: np.random.Generator, style: str | None = None) -> DialogueJson:
    """[user request, assistant reasoning + caption]: what comes before the audio of `generation_dialogue`.

    Args:
        style: one of `REQUEST_STYLES`; None draws one.

    Raises:
        QuestionError: the clip has no annotation, or one without events.
    """
    annotation = _annotation(clip)
    if not annotation.events():
        raise QuestionError(f"clip {clip.id}: its annotation lists no event to request")
    style = style or REQUEST_STYLES[rng.integers(len(REQUEST_STYLES))]
    if style not in REQUEST_STYLES:
        raise ValueError(f"request style {style!r} is none of {', '.join(REQUEST_STYLES)}")
    reasoning = _think(GENERATION_HEADS, _generation_thoughts(annotation, style), None)
    caption = _caption(clip, rng)
    request = _request(annotation, style, rng)
    return [["user", "text", request], ["assistant", "text", f"{reasoning}\n\n{caption}"]]


_REALISTIC = (
    "I am editing a short film and need a clip. Please make a recording with {events}, in that order.",
    "For a listening exercise, please produce a short recording in which one hears {events}, one after another.",
)
_REALISTIC_OVERLAPPING = (
    "I am editing a short film and need a clip. Please make a recording with {events}.",
    "For a listening exercise, please produce a short recording in which one hears {events}.",
)
_IMAGINARY = (
    "Imagine a dream in which things happen one by one in the dark: {events}. Let me hear that dream.",
    "Picture a machine that tells tiny stories in sound. Today its story goes: {events}. Play it for me.",
)
_IMAGINARY_OVERLAPPING = (
    "Imagine a dream in which things happen in the dark: {events}. Let me hear that dream.",
    "Picture a machine that tells tiny stories in sound. Today its story goes: {events}. Play it for me.",
)


def _request(annotation: AudioAnnotation, style: str, rng: np.random.Generator) -> str:
    events = annotation.foreground()
    together = any(overlaps(event, before) for before, event in itertools.pairwise(events))
    if style == "realistic":
        wishes = _REALISTIC_OVERLAPPING if together else _REALISTIC
        behind = [f"{strength(event)} {background_phrase(event)}" for event in annotation.background()]
        told, recorded = _told(annotation, rng), _wished_recording(annotation)
    else:
        wishes = _IMAGINARY_OVERLAPPING if together else _IMAGINARY
        plain = _without_details(annotation)
        behind = [background_phrase(event) for event in plain.background()]
        told, recorded = _told(plain, rng), ""
    wish = wishes[rng.integers(len(wishes))].format(events=told)
    under = f" In the background, all the while, one hears {listing(behind)}." if behind else ""
    return f"{wish}{under}{recorded}"


def _told(annotation: AudioAnnotation, rng: np.random.Generator) -> str:
    """The events in order; "and over it" joins one that begins while the one before it goes on."""
    heard = annotation.foreground()
    told = [noun_phrase(event, annotation, rng) for event in heard]
    for place, (before, event) in enumerate(itertools.pairwise(heard), 1):
        told[place] = (", and over it " if overlaps(event, before) else ", then ") + told[place]
    return "".join(told)


def _wished_recording(annotation: AudioAnnotation) -> str:
    """Where and with which noise it is to be recorded, of a clip whose acoustics are known in numbers."""
    acoustics = annotation.acoustics
    if acoustics.reverberation is None:
        return ""
    room = acoustics.room and f"in {acoustics.room}"
    noise = acoustics.noise and f"with {acoustics.noise}"
    return f" It should sound as if recorded {' '.join(filter(None, (room, noise)))}."


def _without_details(annotation: AudioAnnotation) -> AudioAnnotation:
    """Kinds and words alone: what an imaginary request tells."""
    return dataclasses.replace(
        annotation,
        speakers=tuple(
            dataclasses.replace(speaker, voice=(), accent=None) for speaker in annotation.speakers
        ),
        sounds=tuple(dataclasses.replace(sound, level=None) for sound in annotation.sounds),
        music=tuple(dataclasses.replace(music, key=None, tempo=None) for music in annotation.music),
    )


def _generation_thoughts(annotation: AudioAnnotation, style: str) -> tuple[str, ...]:
    acoustics = annotation.acoustics
    quality = ", ".join(filter(None, (acoustics.quality, acoustics.noise, acoustics.room))) or "as recorded"
    details = [noun_phrase(event, annotation) for event in annotation.foreground()]
    details += [f"{strength(e)} in the background {background_phrase(e)}" for e in annotation.background()]
    return (
        f"a{'n' if style == 'imaginary' else ''} {style} request.",
        f"{'; '.join(details)}.",
        f"{quality}.",
        f"{', then '.join(kind(event) for event in annotation.foreground())}.",
    )


def _think(heads: tuple[str, ...], thoughts: tuple[str, ...], bullet: str | None) -> str:
    """The reasoning block: bulleted heads, or numbered ones where `bullet` is None."""
    marks = [bullet or f"{place}." for place in range(1, len(heads) + 1)]
    rows = [f"{mark} {head}: {thought}" for mark, head, thought in zip(marks, heads, thoughts, strict=True)]
    return thought("\n".join(rows))


def thought(reasoning: str) -> str:
    """The reasoning of a reply, between its marks."""
    begin, end = THINK_TOKENS
    return f"{begin}\n{reasoning}\n{end}"


def split_reply(reply: str) -> tuple[str, str | None]:
    """What stands before the end of a reply's reasoning, and what follows it; None if the reasoning never ended."""
    before, end, behind = reply.rpartition(THINK_TOKENS[1])
    return (before, behind.strip()) if end else (behind, None)


def final_answer(reply: str) -> str:
    """What follows a reply's reasoning; "" if the reasoning never ended."""
    return split_reply(reply)[1] or ""


def before_thought(reply: str) -> str:
    """What stands before a reply's reasoning."""
    return reply.partition(THINK_TOKENS[0])[0]


def _annotation(clip: Clip) -> AudioAnnotation:
    if clip.annotation is None:
        raise QuestionError(f"clip {clip.id} has no annotation to make a dialogue from")
    return AudioAnnotation.from_json(clip.annotation)
