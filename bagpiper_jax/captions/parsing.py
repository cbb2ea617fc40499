"""Reading rich captions back into facts, also imperfect ones that a model wrote: the ground of caption scoring."""

import dataclasses
import itertools
import re

from bagpiper_jax.captions import lexicon, prose
from bagpiper_jax.captions.annotation import AudioAnnotation, Music, SoundEvent, Turn
from bagpiper_jax.captions.prose import kind


@dataclasses.dataclass(frozen=True)
class ParsedEvent:
    """One event of a caption; what the text does not tell is None.

    Attributes:
        kind: "speech", a sound's label, or the instruments of a musical passage ("music" if unnamed).
        domain: speech, sound or music.
        words: the spoken words, lower-case, without punctuation.
        level: loud or soft, else None. key: as written. tempo: slow, moderate or fast.
        voice: the description of the speaker before the word "voice", lower-case.
        start: seconds, in the attribute style only.
        over: whether it begins while the event before it goes on.
        strength: of a background, how it is heard, one of `lexicon.STRENGTHS`.
    """

    kind: str
    domain: str
    words: tuple[str, ...] = ()
    level: str | None = None
    key: str | None = None
    tempo: str | None = None
    voice: str | None = None
    start: float | None = None
    over: bool = False
    strength: str | None = None


@dataclasses.dataclass(frozen=True)
class ParsedCaption:
    """The facts of one caption.

    Attributes:
        events: what is heard in order, backgrounds apart.
        stated_count: the number of events that the summary states.
        absent: what the caption says is not there.
        background: what goes on under the events.
        room, noise: as written.
    """

    events: tuple[ParsedEvent, ...]
    stated_count: int | None = None
    absent: tuple[str, ...] = ()
    background: tuple[ParsedEvent, ...] = ()
    room: str | None = None
    noise: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(event.kind for event in self.events)

    @property
    def count(self) -> int:
        return len(self.events)

    @property
    def words(self) -> tuple[str, ...]:
        """All spoken words in order."""
        return tuple(word for event in self.events for word in event.words)

    @property
    def instruments(self) -> tuple[str, ...]:
        return tuple(event.kind for event in self.events if event.domain == "music")

    @property
    def keys(self) -> tuple[str | None, ...]:
        return tuple(event.key for event in self.events if event.domain == "music")


def facts(annotation: AudioAnnotation) -> ParsedCaption:
    """What a perfect parser finds in a perfect flowing caption of that annotation: the truth to score against."""
    heard, acoustics = annotation.foreground(), annotation.acoustics
    events = [_fact(event, annotation) for event in heard]
    for place, (before, event) in enumerate(itertools.pairwise(heard), 1):
        events[place] = dataclasses.replace(events[place], over=prose.overlaps(event, before))
    under = tuple(
        dataclasses.replace(_fact(event, annotation), level=None, strength=prose.strength(event))
        for event in annotation.background()
    )
    return ParsedCaption(
        tuple(events), len(events), annotation.absent, under, acoustics.room, acoustics.noise
    )


def _fact(event: Turn | SoundEvent | Music, annotation: AudioAnnotation) -> ParsedEvent:
    if isinstance(event, Turn):
        speaker = annotation.speaker(event.speaker)
        voice = " ".join(filter(None, (*speaker.voice, speaker.age, speaker.gender))).lower()
        return ParsedEvent(lexicon.SPEECH, "speech", spoken_words(event.text), voice=voice or None)
    if isinstance(event, SoundEvent):
        return ParsedEvent(
            event.label.lower(), "sound", level=None if event.level == "medium" else event.level
        )
    tempo = lexicon.tempo_word(event.tempo) if event.tempo else None
    return ParsedEvent(kind(event).lower(), "music", key=event.key, tempo=tempo)


def spoken_words(text: str) -> tuple[str, ...]:
    """Words in lower case without punctuation, apostrophes inside words kept."""
    return tuple(re.findall(r"\w+(?:['’]\w+)*", text.lower()))


def parse_caption(text: str) -> ParsedCaption:
    """Reads a caption of either style, or anything like one, and never raises.

    A caption whose sentences name no event is read by its summary. Text before and after the caption (the
    lines of the attribute form excepted) does no harm as long as it names no sound.
    """
    rows = dict(re.findall(rf"^({_ROWS}): (.*?)\.?$", text, re.M))
    unquoted = _CLOSED_QUOTE.sub(
        lambda quote: " " * len(quote[0]), text
    )  # same places, nothing that was said
    end = unquoted.find("In summary")
    body, summary = (text, "") if end < 0 else (text[:end], text[end:])
    flowing = re.split(rf"^(?:Duration|{_ROWS}): ", body, maxsplit=1, flags=re.M)[0]
    found = _read_sentences(flowing)
    if not found.events and rows:
        found = _read_rows(rows)
    if not found.events:
        found = dataclasses.replace(found, events=_read_summary(summary))
    return dataclasses.replace(
        found, stated_count=_stated_count(summary), absent=_absent(unquoted[: len(flowing)])
    )


_ROWS = "Speaker turns|Transcript|Speakers|Sound events|Music|Background sounds|Background music|Acoustics"
_QUOTE = re.compile(r'["“]([^"“”]*)["”]?')
_CLOSED_QUOTE = re.compile(r'["“][^"“”]*["”]')
_SENTENCE = re.compile(r'(?:[^.!?"“]|["“][^"“”]*["”]?|\.(?=\d))+')
_LEADS = "|".join((*prose.FIRST, *prose.MIDDLE, *prose.LAST, *prose.ONLY, prose.OVERLAPPING))
_BEHIND = re.compile(rf"({'|'.join(lexicon.STRENGTHS)}) {prose.BEHIND} (.+)", re.I)
_RECORDING = re.compile(
    r"\b(?:The|An?) (?:\S+ )*?recording\b(?: is [^,]*,)?(?: in (?P<room>.+?))?(?: with (?P<noise>.+))?$", re.I
)
_NO_EVENT = re.compile(r"(There is|There are) no\b|(The|An?) (?:\S+ )*?recording\b", re.I)
_ABSENT = re.compile(r"\bThere is no ([^.]*)", re.I)
_MELODY = re.compile(r"\ban? (?:(slow|moderate|fast) )?(.*?)\s*\bmelody\b", re.I)
_PASSAGE = re.compile(r"\ban? (?:(slow|moderate|fast) )?passage of (?:.* )?music\b", re.I)
_PLAYING = re.compile(r"\ban? (.+?) playing(?: (slow|moderate|fast))?", re.I)
_KEY = re.compile(r"\bin ([A-G](?:[-# ]?(?:flat|sharp)|#|b)? (?:major|minor))", re.I)
_VOICE = re.compile(r"\ban? (.*?)\s*\b(?:voice|speaker)\b", re.I)
_LEVEL = re.compile(r"\b(loud|soft)\b", re.I)
_SOUND_OF = re.compile(r"\bsound of (.+?)\s*$", re.I)


def _read_sentences(text: str) -> ParsedCaption:
    events: list[ParsedEvent] = []
    under: list[ParsedEvent] = []
    acoustics: dict[str, str | None] = {}
    for sentence in map(str.strip, _SENTENCE.findall(text)):
        if behind := _BEHIND.match(sentence):
            if event := _read_clause(behind[2]):
                under.append(dataclasses.replace(event, strength=behind[1].lower()))
            continue
        if recorded := _RECORDING.search(_QUOTE.sub(" ", sentence)):
            acoustics = acoustics or recorded.groupdict()
        if sentence and not _NO_EVENT.match(sentence):
            lead = re.match(f"(?:{_LEADS})\\s*", sentence, re.I)
            event = _read_clause(sentence[lead.end() :] if lead else sentence)
            over = bool(lead and lead[0].lower().startswith(prose.OVERLAPPING.lower()))
            if event:
                events.append(dataclasses.replace(event, over=over and bool(events)))
    return ParsedCaption(tuple(events), background=tuple(under), **acoustics)


def _read_clause(clause: str) -> ParsedEvent | None:
    """The event of one noun phrase, by the strictest pattern that fits."""
    bare = _QUOTE.sub(" ", clause)
    if bare == clause and _SOUND_OF.search(clause):  # "the sound of a screaming voice" is no speech
        return _read_sound(clause)
    if re.search(r"\b(voice|speaker|speech|says|saying)\b", bare, re.I):
        words = tuple(word for quote in _QUOTE.findall(clause) for word in spoken_words(quote))
        voice = _VOICE.search(bare)
        return ParsedEvent(lexicon.SPEECH, "speech", words, voice=(voice and voice[1].lower()) or None)
    return _read_music(bare) or _read_sound(bare)


def _read_music(clause: str) -> ParsedEvent | None:
    key = _KEY.search(clause)
    if passage := _PASSAGE.search(clause):
        tempo, name = passage[1], lexicon.UNNAMED_INSTRUMENT
    elif melody := _MELODY.search(clause):
        tempo, name = melody[1], melody[2]
    elif playing := _PLAYING.search(clause):
        name, tempo = playing[1], playing[2]
    else:
        return None
    return ParsedEvent(
        name.lower() or lexicon.UNNAMED_INSTRUMENT, "music", key=key and key[1], tempo=tempo and tempo.lower()
    )


def _read_sound(clause: str) -> ParsedEvent | None:
    stated = _LEVEL.search(clause)
    level = stated and stated[1].lower()
    if named := _SOUND_OF.search(clause):
        return ParsedEvent(named[1].lower(), "sound", level=level)
    found = ((re.search(rf"\b(?:{cue})\b", clause, re.I), label) for label, cue in lexicon.SOUND_CUES.items())
    hits = [(match.start(), label) for match, label in found if match]
    return ParsedEvent(min(hits)[1], "sound", level=level) if hits else None


def _read_summary(summary: str) -> tuple[ParsedEvent, ...]:
    """Kinds alone, from the list that ends a summary."""
    names = summary.partition(":")[2].split("\n")[0].strip(" .")
    kinds = [name.strip().lower() for name in re.split(r",\s*(?:then\s+)?", names) if name.strip()]
    return tuple(ParsedEvent(name, _domain(name)) for name in kinds)


def _domain(name: str) -> str:
    return "speech" if name == lexicon.SPEECH else "sound" if name in lexicon.SOUND_CUES else "music"


def _stated_count(summary: str) -> int | None:
    match = re.search(r"\b(\w+) events?\b", summary)
    if not match:
        return None
    word = match[1].lower()
    return (
        lexicon.NUMBER_WORDS.index(word)
        if word in lexicon.NUMBER_WORDS
        else int(word)
        if re.fullmatch("[0-9]{1,4}", word)
        else None
    )


def _absent(text: str) -> tuple[str, ...]:
    match = _ABSENT.search(text)
    return tuple(part.strip() for part in re.split(r"\bor\b|,", match[1]) if part.strip()) if match else ()


def _read_rows(rows: dict[str, str]) -> ParsedCaption:
    """Events of the attribute form, ordered by their starts."""
    described = (re.match(r"(\S+) an? (.*?) ?voice", item + " voice") for item in _items(rows, "Speakers"))
    voices = {match[1]: match[2] for match in described if match}
    said = [spoken_words(quote) for quote in _QUOTE.findall(rows.get("Transcript", ""))]
    timed = []
    for place, (span, item) in enumerate(_timed_items(rows, "Speaker turns")):
        voice, words = voices.get(item.split()[0]), said[place] if place < len(said) else ()
        timed.append((span, ParsedEvent(lexicon.SPEECH, "speech", words, voice=voice or None)))
    for span, item in _timed_items(rows, "Sound events"):
        label, _, level = item.partition(", ")
        level = level if level in ("loud", "soft") else None
        timed.append((span, ParsedEvent(label.lower(), "sound", level=level)))
    timed += [(span, _music_row(item)) for span, item in _timed_items(rows, "Music")]
    timed.sort(key=lambda pair: pair[0][0])
    events = [dataclasses.replace(event, start=start) for (start, _), event in timed]
    for place, ((before, _), (span, _)) in enumerate(itertools.pairwise(timed), 1):
        events[place] = dataclasses.replace(events[place], over=span[0] < before[1] - prose.OVERLAP_SECONDS)
    return ParsedCaption(tuple(events), background=_background_rows(rows), **_acoustics_row(rows))


def _background_rows(rows: dict[str, str]) -> tuple[ParsedEvent, ...]:
    found = []
    for name in ("Background sounds", "Background music"):
        for (start, _), item in _timed_items(rows, name):
            what, _, strength = item.rpartition(", ")
            event = _music_row(what) if name == "Background music" else ParsedEvent(what.lower(), "sound")
            known = strength if strength in lexicon.STRENGTHS else None
            found.append(dataclasses.replace(event, start=start, strength=known))
    return tuple(sorted(found, key=lambda event: event.start or 0.0))


def _acoustics_row(rows: dict[str, str]) -> dict[str, str]:
    pairs = (item.partition(" ") for item in _items(rows, "Acoustics"))
    return {name: value for name, _, value in pairs if name in ("room", "noise")}


_TIMED = re.compile(r"(\d{1,6}(?:\.\d+)?)-(\d{1,6}(?:\.\d+)?) s (\S.*)")


def _timed_items(rows: dict[str, str], name: str) -> list[tuple[tuple[float, float], str]]:
    """Start, end and text of the items of a row that have times."""
    found = map(_TIMED.match, _items(rows, name))
    return [((float(each[1]), float(each[2])), each[3]) for each in found if each]


def _items(rows: dict[str, str], name: str) -> list[str]:
    return [item for item in rows.get(name, "").split("; ") if item]


def _music_row(text: str) -> ParsedEvent:
    key, tempo = re.search(r"key (\S+ \w+)", text), re.search(r"(\d{1,6}(?:\.\d+)?) beats", text)
    word = lexicon.tempo_word(float(tempo[1])) if tempo else None
    name = re.split(r", (?:genre|key|\d)", text)[0]
    return ParsedEvent(name.lower(), "music", key=key and key[1], tempo=word)
