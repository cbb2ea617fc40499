"""What of tuning data contradicts itself: an answer its caption, a caption its annotation, a question without audio.

A caption is read by `parse_caption`, and its facts answer the questions of `corpora.questions` once more, by the code
that asks them. Only what is certain is a fault: a question of another form, or a fact that the caption does not tell,
is not judged.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence

from bagpiper_jax.captions import (
    Acoustics,
    AudioAnnotation,
    Music,
    ParsedCaption,
    SoundEvent,
    Speaker,
    Turn,
    parse_caption,
)
from bagpiper_jax.captions.lexicon import (
    NUMBER_WORDS,
    ROOM_SECONDS,
    STRENGTHS,
    TEMPO_WORDS,
    UNNAMED_INSTRUMENT,
)
from bagpiper_jax.captions.parsing import ParsedEvent, facts, spoken_words
from bagpiper_jax.captions.prose import FIRST, LAST, MIDDLE, ONLY, OVERLAPPING
from bagpiper_jax.corpora.questions import CAPTION_LEAD, Question, before_thought, questions, split_reply

REASONS = (
    "contradicts_caption", "empty_caption", "question_without_audio", "caption_contradicts_annotation",
)  # fmt: skip

_LEADS = tuple((*FIRST, *MIDDLE, *LAST, *ONLY, OVERLAPPING))
_BEATS = dict(zip(TEMPO_WORDS, (60.0, 110.0, 160.0), strict=True))  # of each word, any number that it names
_DECIBELS = dict(zip(STRENGTHS, (5.0, 12.0, 20.0), strict=True))  # of each word, any number that it names
_LONGEST_NAME = 3  # words; what is longer than any instrument's name may say anything
_KEY = re.compile(r"\b([A-G](?:[-# ]?(?:flat|sharp)|#|b)? (?:major|minor))\b", re.I)
_QUOTE = re.compile(r'["“]([^"“”]*)["”]')


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of `REASONS`, and what was found."""

    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Of a dialogue, or of a caption: its faults, and how many answers, or captions, could be judged and could not."""

    faults: tuple[Fault, ...] = ()
    judged: int = 0
    not_judged: int = 0


def judge_dialogue(messages: Sequence[tuple[str, str, str]]) -> Verdict:
    """Judges every answer of a dialogue.

    Args:
        messages: (role, modality, content) in order; content of audio is not looked at.
    """
    found, judged, not_judged, question, hears = [], 0, 0, "", False
    for place, (role, modality, content) in enumerate(messages):
        hears |= modality == "audio" and role != "assistant"
        if modality != "text" or role == "system":
            continue
        if role == "user":
            question = content
            continue
        if _sounds(messages[place + 1 :]):
            found += _of_plan(content)
            continue
        faults, certain = _of_answer(question, content, hears)
        found += faults
        judged, not_judged = judged + certain, not_judged + (not certain)
    return Verdict(tuple(found), judged, not_judged)


def judge_caption(caption: str, annotation: AudioAnnotation) -> Verdict:
    """Judges a caption by the annotation of its clip. Of one in free words only what it calls absent is judged."""
    true, said = facts(annotation), parse_caption(caption)
    complete = _lists_its_events(said, caption)
    found = [*_absent_and_present(said, true), *(_differing(said, true, annotation) if complete else ())]
    faults = tuple(Fault("caption_contradicts_annotation", detail) for detail in found)
    certain = complete or bool(said.absent)
    return Verdict(faults, int(certain), int(not certain))


def _absent_and_present(said: ParsedCaption, true: ParsedCaption) -> Iterator[str]:
    for name in said.absent:
        if any(name in (event.domain, event.kind) for event in (*true.events, *true.background)):
            yield f"the caption says there is no {name}, the annotation has some"


def _differing(said: ParsedCaption, true: ParsedCaption, annotation: AudioAnnotation) -> Iterator[str]:
    """Where a caption that tells every event tells others than the annotation."""
    for name in true.absent:
        if any(event.domain == name for event in (*said.events, *said.background)):
            yield f"the caption has {name}, the annotation says there is none"
    if sorted(said.kinds) != sorted(true.kinds):
        yield f"the caption lists {_listed(said.kinds)}, the annotation {_listed(true.kinds)}"
    elif said.kinds != true.kinds and _have_an_order(annotation):
        yield f"the caption's order is {_listed(said.kinds)}, the annotation's {_listed(true.kinds)}"
    for told, known, what in (
        (_backgrounds(said), _backgrounds(true), "background"),
        (said.room, true.room, "room"),
    ):
        if told and known and told != known:
            yield f"the caption's {what} is {told}, the annotation's {known}"
    if said.words and true.words and said.words != true.words:
        yield f'the caption quotes "{" ".join(said.words)}", the annotation "{" ".join(true.words)}"'


def _backgrounds(caption: ParsedCaption) -> str:
    return ", ".join(f"{event.kind}, {event.strength}" for event in caption.background)


def _listed(kinds: Sequence[str]) -> str:
    return ", then ".join(kinds) or "nothing"


def _have_an_order(annotation: AudioAnnotation) -> bool:
    starts = [event.start for event in annotation.foreground()]
    return len(set(starts)) == len(starts)


def _sounds(behind: Sequence[tuple[str, str, str]]) -> bool:
    """Whether the message before these is what is thought before the audio that the assistant makes."""
    return bool(behind) and tuple(behind[0][:2]) == ("assistant", "audio")


def _of_plan(content: str) -> list[Fault]:
    """Of reasoning and caption, before audio."""
    empty = split_reply(content)[1] == ""
    return [Fault("empty_caption", "no caption stands between the reasoning and the audio")] if empty else []


def _of_answer(question: str, content: str, hears: bool) -> tuple[list[Fault], bool]:
    """The faults of an answer, and whether it was judged."""
    leads = content.lstrip().startswith(CAPTION_LEAD.strip())
    if not hears and (leads or _folded(question) in _forms()):
        return [
            Fault("question_without_audio", f"{question!r} is asked, and no audio is there to hear")
        ], True
    if not leads:
        return [], False
    captioned, answer = split_reply(content.lstrip().removeprefix(CAPTION_LEAD.strip()))
    caption = before_thought(captioned).strip()
    if not caption:
        return [Fault("empty_caption", f"nothing stands behind {CAPTION_LEAD!r}")], True
    asked = None if answer is None else _asked(question, caption)
    agrees = _agrees(asked, answer, caption) if asked else None
    if asked is None or agrees is None:
        return [], False
    said = f"{asked.question!r} is answered {answer!r}; by the caption it is {asked.answer!r}"
    return ([] if agrees else [Fault("contradicts_caption", said)]), True


def _asked(question: str, caption: str) -> Question | None:
    """The question with the answer that the caption's facts give; None where they give none."""
    said = parse_caption(caption)
    if not _lists_its_events(said, caption):
        said = dataclasses.replace(said, events=())  # what is absent is certain still
    unheard = any(event.domain == "speech" and not event.words for event in said.events)
    for known in questions(_annotation_of(said)):
        if _folded(known.question) == _folded(question):
            return None if known.topic in ("words", "voice_words") and unheard else known
    return None


def _lists_its_events(said: ParsedCaption, caption: str) -> bool:
    """Whether a caption tells each event by itself, so that what was read of it is all that it holds."""
    if said.stated_count is not None:
        return said.stated_count == said.count
    sentences = re.split(r"(?<=[.!?])\s+", caption)
    timed = all(event.start is not None for event in said.events)
    return bool(said.events) and (timed or sum(s.startswith(_LEADS) for s in sentences) == said.count)


def _agrees(asked: Question, answer: str, caption: str) -> bool | None:
    """Whether an answer says what the caption's facts do; None where its words leave that open."""
    said, wanted = spoken_words(answer), spoken_words(asked.answer)
    if said == wanted:
        return True
    match asked.topic:
        case "speech" | "music" | "echo":
            return said[0] == wanted[0] if said[:1] in (("yes",), ("no",)) else None
        case "count":
            told = said[:1] + tuple(word for word in said[1:] if word != "one")  # "more than one might think"
            return _one_of([number for word in told if (number := _number(word))], _number(wanted[0]))
        case "tempo":
            return _one_of([word for word in said if word in TEMPO_WORDS], wanted[-1])
        case "key":
            return _one_of(
                [key.casefold() for key in _KEY.findall(answer)], asked.answer.strip(".").casefold()
            )
        case "words" | "voice_words":
            quotes = [word for quote in _QUOTE.findall(answer) for word in spoken_words(quote)]
            return tuple(quotes) == wanted if quotes else None
        case "first" | "last":
            return _names(said, wanted, asked, caption)
        case "order":
            return _in_order(re.split(r",\s*(?:then\s+)?", answer), parse_caption(caption).kinds)
        case "instrument" | "background" | "strength" | "noise" | "overlap" | "voice" | "voice_first":
            return True if set(wanted) <= set(said) else False if len(said) <= _LONGEST_NAME else None
    return None


def _names(said: tuple[str, ...], wanted: tuple[str, ...], asked: Question, caption: str) -> bool | None:
    """Whether the kind that is wanted is named: "First comes speech.", "A barking dog."."""
    events, text = parse_caption(caption).kinds, " ".join(said)
    kind = events[0 if asked.topic == "first" else -1]
    named = _kinds(text, events)
    if kind in named:
        return True
    return False if named or said[:1] == wanted[:1] else None


def _in_order(names: Sequence[str], events: tuple[str, ...]) -> bool | None:
    """Whether some phrases name the events; a phrase that names nothing known may be any of them."""
    named = [_kinds(" ".join(spoken_words(name)), events) for name in names]
    if len(named) != len(events) or any(k and e not in k for k, e in zip(named, events, strict=True)):
        return False
    return True if all(named) else None


def _kinds(text: str, events: tuple[str, ...]) -> set[str]:
    """The kinds of event that a phrase names: those that any caption may have, and those of this one."""
    return {
        *parse_caption(f"{FIRST[0]} {text}.").kinds,
        *(each for each in events if f" {each} " in f" {text} "),
    }


def _one_of(found: Sequence[str], wanted: str | None) -> bool | None:
    return found[0] == wanted if len(found) == 1 else None


def _number(word: str) -> str | None:
    """A number of events in digits."""
    if word in NUMBER_WORDS:
        return str(NUMBER_WORDS.index(word))
    return word if re.fullmatch("[0-9]{1,4}", word) else None


def _annotation_of(said: ParsedCaption) -> AudioAnnotation:
    """An annotation with the facts of a caption, an event a second."""
    spans = [(float(i), i + 1.0) for i in range(len(said.events))]
    for i, event in enumerate(said.events[1:], 1):
        if event.over:
            spans[i - 1] = (i - 1.0, i + 0.5)
    heard = list(zip(spans, said.events, strict=True))
    under = [((0.0, len(heard) + 1.0), event) for event in said.background]
    voices = dict.fromkeys(event.voice for event in said.events if event.domain == "speech")
    ids = {voice: f"S{i}" for i, voice in enumerate(voices, 1)}
    present = {event.domain for _, event in (*heard, *under)}
    return AudioAnnotation(
        duration=len(heard) + 1.0,
        turns=tuple(
            Turn(ids[e.voice], *span, " ".join(e.words)) for span, e in heard if e.domain == "speech"
        ),
        speakers=tuple(Speaker(id, voice=(voice,) if voice else ()) for voice, id in ids.items()),
        sounds=tuple(
            SoundEvent(e.kind, *span, snr=_snr(e)) for span, e in (*under, *heard) if e.domain == "sound"
        ),
        music=tuple(_music(span, e) for span, e in (*under, *heard) if e.domain == "music"),
        acoustics=Acoustics(
            noise=said.noise, room=said.room, reverberation=ROOM_SECONDS.get(said.room or "")
        ),
        absent=tuple(name for name in said.absent if name not in present),
    )


def _snr(event: ParsedEvent) -> float | None:
    """Any number that the word for a background's strength names; None of an event of its own."""
    return _DECIBELS[event.strength] if event.strength else None


def _music(span: tuple[float, float], event: ParsedEvent) -> Music:
    instruments = () if event.kind == UNNAMED_INSTRUMENT else (event.kind,)
    tempo = _BEATS.get(event.tempo or "")
    return Music(*span, key=event.key, tempo=tempo, instruments=instruments, snr=_snr(event))


@functools.cache
def _forms() -> frozenset[str]:
    """The questions that `corpora.questions` asks."""
    everything = ParsedCaption((
        ParsedEvent("speech", "speech", words=("one",)), ParsedEvent("bell", "sound"),
        ParsedEvent("flute", "music", key="C major", tempo="slow"),
    ))  # fmt: skip
    return frozenset(_folded(known.question) for known in questions(_annotation_of(everything)))


def _folded(question: str) -> str:
    return " ".join(spoken_words(question))
