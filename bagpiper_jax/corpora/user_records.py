"""Reading a user's JSONL: one line becomes a checked `UserRecord` or a `RecordError` with its remedy.

Fields of a line: `audio` (path, absolute or relative to the JSONL) and one or more of `caption` (prose),
`annotation` (an `AudioAnnotation` as an object), `dialogue` ([[role, modality, content], …]; audio content is
a path or the id of a record), `transcript` (what `speaker` says from beginning to end), `text` (a plain document,
without audio). Optional: `id`, `split`, `domain`,
`language`, `licence`, `source`, `group` (what must stay within one split: a speaker, a recording).

`start` and `end` say which part of a recording is meant, and `captions` ([[start, end, caption], …]) tells of several.
All times of a record, its annotation's too, are seconds of its audio file.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bagpiper_jax import strict
from bagpiper_jax.captions.markup import control_token_in, markup_in
from bagpiper_jax.corpora import audio_names
from bagpiper_jax.corpora.assembly import digest
from bagpiper_jax.dialogue import DialogueError, Message
from bagpiper_jax.manifest import DOMAINS, SPLITS, is_id
from bagpiper_jax.outcomes import RecordError

_MAX_ID = 120  # leaves room for a suffix in a 255-byte file name, also in three-byte characters
_STRINGS = (
    "id", "audio", "caption", "transcript", "speaker", "text", "split", "domain", "language", "licence", "source",
    "group",
)  # fmt: skip
FIELDS = (*_STRINGS, "annotation", "dialogue", "start", "end", "captions")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


@dataclasses.dataclass(frozen=True)
class UserRecord:
    """One checked line; strings are stripped, absent ones empty; `dialogue` is (role, modality, content)s.

    Attributes:
        start, seconds: the part of `audio` that is meant; None lasts to its end.
        captions: (start, end, caption) of parts of `audio`.

    Attributes without a field of the JSONL, for other readers of records:
        file: where `line` stands; "" for the corpus's own source.
        is_described: whether the caption was written from the annotation.
        offset, size: where in the file `audio` its bytes stand; a size of 0 means the whole file.
        directions: see `manifest.Clip`.
    """

    line: int
    id: str
    audio: str = ""
    caption: str = ""
    transcript: str = ""
    speaker: str = ""
    text: str = ""
    annotation: dict | None = None
    dialogue: tuple[tuple[str, str, str], ...] = ()
    split: str = ""
    domain: str = ""
    language: str = ""
    licence: str = ""
    source: str = ""
    group: str = ""
    file: str = ""
    start: float = 0.0
    seconds: float | None = None
    offset: int = 0
    size: int = 0
    directions: tuple[str, ...] = ()
    captions: tuple[tuple[float, float, str], ...] = ()
    is_described: bool = False

    @property
    def is_part(self) -> bool:
        return self.start > 0 or self.seconds is not None

    @property
    def is_told(self) -> bool:
        """Whether anything is said of its audio."""
        return bool(self.caption or self.captions or self.transcript or self.annotation or self.dialogue)

    @property
    def kept_together(self) -> str:
        """What must stay within one split; the audio file by default, as two records may describe it."""
        return self.group or self.audio or self.id


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (line number from 1, bytes) of the lines that are not blank; a byte-order mark is dropped."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line


def load_line(line: bytes) -> dict:
    """A line as an object. Raises RecordError `bad_json`."""
    remedy = "write one JSON object per line, in UTF-8"
    try:
        value = strict.loads(line)
    except UnicodeEncodeError as error:
        raise RecordError("bad_text", "half a surrogate pair", "write whole characters") from error
    except ValueError as error:
        raise RecordError("bad_json", str(error), remedy) from error
    if not isinstance(value, dict):
        raise RecordError("bad_json", f"the line is a {type(value).__name__}, not an object", remedy)
    return value


def parse(value: Mapping, line: int, max_chars: int, uncaptioned: bool = False) -> UserRecord:
    """Checks the fields of one object.

    Args:
        value: the object; fields not in `FIELDS` are ignored (see `unknown_fields`).
        line: its line number.
        max_chars: longest caption, text or message allowed.
        uncaptioned: whether there may be audio of which nothing is said.

    Raises:
        RecordError: `wrong_type`, `blank_caption`, `bad_text`, `too_long_text`, `bad_id`, `bad_split`, `bad_domain`,
            `bad_language`, `bad_times`, `bad_captions`, `bad_transcript`, `unknown_role`, `bad_dialogue`, `markup`,
            `unread_audio` or `no_content`.
    """
    strings = {name: _string(value, name, max_chars) for name in _STRINGS}
    if mark := markup_in(strings["caption"]):
        raise RecordError("markup", f"the caption holds {mark!r}", "take the markup of other tools out of it")
    if token := control_token_in(strings["text"]):
        raise RecordError("markup", f"the text holds {token!r}", "cut the text where the token stands")
    for name in ("caption", "transcript", "text"):
        if value.get(name) is not None and not strings[name]:
            raise RecordError(
                f"blank_{name}", f"{name} is empty or only spaces", f"write the {name} or drop the record"
            )
    annotation = value.get("annotation")
    if annotation is not None and not isinstance(annotation, dict):
        raise _wrong_type("annotation", "an object", annotation)
    start, seconds = times(value)
    record = UserRecord(
        line=line, annotation=annotation, dialogue=_dialogue(value.get("dialogue"), max_chars), start=start,
        seconds=seconds, captions=_captions(value.get("captions"), max_chars),
        **{**strings, "id": strings["id"] or _default_id(value)},
    )  # fmt: skip
    _check_names(record)
    if not record.audio and not audio_messages(record.dialogue):
        refuse_unread_audio(value)
    _check_content(record, uncaptioned)
    return record


def times(value: Mapping) -> tuple[float, float | None]:
    """(start, seconds) of the part that `start` and `end` tell. Raises RecordError `bad_times`."""
    start, end = value.get("start"), value.get("end")
    for name, given in (("start", start), ("end", end)):
        if given is not None and not _is_time(given):
            raise RecordError("bad_times", f"{name} is {str(given)[:40]!r}", "write seconds, 0 or more")
    begin = float(start or 0)
    if end is None:
        return begin, None
    if not end > begin:
        raise RecordError("bad_times", f"from {begin:g} to {end:g} s", "write start and end in seconds")
    return begin, round(end - begin, 6)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _captions(value: object, max_chars: int) -> tuple[tuple[float, float, str], ...]:
    """Captions with their times. Raises RecordError `bad_captions`."""
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        raise _wrong_type("captions", "a list of [start, end, caption]", value)
    found = []
    for index, item in enumerate(value):
        if not (
            isinstance(item, list) and len(item) == 3 and all(map(_is_time, item[:2])) and item[0] < item[1]
        ):
            remedy = "write each caption as [start, end, caption], times in seconds"
            raise RecordError("bad_captions", f"caption {index} is {json.dumps(item)[:80]}", remedy)
        if not (text := _string({"caption": item[2]}, "caption", max_chars)):
            raise RecordError(
                "blank_caption", f"caption {index} is empty or only spaces", "write it or drop it"
            )
        if mark := markup_in(text):
            raise RecordError(
                "markup", f"caption {index} holds {mark!r}", "take the markup of other tools out of it"
            )
        found.append((float(item[0]), float(item[1]), text))
    return tuple(found)


def is_audio_message(message: object) -> bool:
    """Whether something in a dialogue is [role, "audio", name]; malformed messages are left to those who use them."""
    well_formed = isinstance(message, list | tuple) and len(message) == 3 and isinstance(message[2], str)
    return well_formed and message[1] == "audio"


def audio_messages(dialogue: Iterable[Sequence[str]] | None) -> list[str]:
    """What the audio messages of a dialogue name: ids of clips and paths."""
    return [message[2] for message in dialogue or () if is_audio_message(message)]


def refuse_unread_audio(value: Mapping) -> None:
    """Raises RecordError `unread_audio`: other fields than `FIELDS` name audio, which the record would be without."""
    if names := audio_names.fields_with_audio(value, FIELDS):
        shown = json.dumps(value[names[0]], ensure_ascii=False, default=lambda x: type(x).__name__)[:80]
        detail = (
            f"{', '.join(names)} names audio ({shown}), which is not read; its words alone are no document"
        )
        raise RecordError("unread_audio", detail, "name the file in the field `audio`, or drop the field")


def unknown_fields(value: Mapping) -> list[str]:
    """Names of fields that nothing reads, with the nearest known one: `captoin (caption?)`."""
    found = []
    for name in sorted(set(value) - set(FIELDS)):
        near = difflib.get_close_matches(name, FIELDS, 1, 0.8)
        found.append(f"{name} ({near[0]}?)" if near else name)
    return found


def _wrong_type(name: str, expected: str, value: object) -> RecordError:
    return RecordError("wrong_type", f"{name} is a {type(value).__name__}", f"make {name} {expected}")


def _string(value: Mapping, name: str, max_chars: int) -> str:
    content = value.get(name)
    if content is None:
        return ""
    if not isinstance(content, str):
        raise _wrong_type(name, "the path of a file" if name == "audio" else "a string", content)
    return _clean(content, name, max_chars)


def _clean(content: str, name: str, max_chars: int) -> str:
    """The stripped text; refuses what no tokenizer should see."""
    if len(content) > max_chars:
        remedy = "shorten it or raise UserCorpusConfig.max_chars"
        raise RecordError("too_long_text", f"{name} has {len(content)} characters, limit {max_chars}", remedy)
    if bad := strict.unusable(content):
        raise RecordError("bad_text", f"{name} holds the character {bad}", "remove control characters")
    return content.strip()


def _default_id(value: Mapping) -> str:
    """From the record's content, so that reordering a file changes no id."""
    audio = value.get("audio") or "text"
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(audio).stem)[:60].strip("-") or "clip"
    return f"{stem}-{digest(value)[:10]}"


def _dialogue(value: object, max_chars: int) -> tuple[tuple[str, str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        raise _wrong_type("dialogue", "a list of [role, modality, content]", value)
    return tuple(_message(index, item, max_chars) for index, item in enumerate(value))


def _message(index: int, item: object, max_chars: int) -> tuple[str, str, str]:
    remedy = "write each message as [role, modality, content], three strings"
    if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
        raise RecordError("bad_dialogue", f"message {index} is {json.dumps(item)[:80]}", remedy)
    role, modality, content = item[0], item[1], _clean(item[2], f"message {index}", max_chars)
    try:
        Message(role, modality, content)
    except DialogueError as error:
        reason = "unknown_role" if "role" in str(error) else "bad_dialogue"
        raise RecordError(reason, f"message {index}: {error}", "use one of the known names") from error
    if not content:
        raise RecordError("bad_dialogue", f"message {index} is empty or only spaces", "write its content")
    if modality == "text" and (token := control_token_in(content)):
        remedy = "write the message without its chat template; role and end are told apart from it"
        raise RecordError("markup", f"message {index} holds {token!r}", remedy)
    return role, modality, content


def _check_names(record: UserRecord) -> None:
    if len(record.id) > _MAX_ID or not is_id(record.id) or record.id.startswith("."):
        remedy = f"use up to {_MAX_ID} letters, digits, '-', '_' or '.', not starting with '.'"
        raise RecordError("bad_id", f"id {record.id[:80]!r}", remedy)
    for name, known in (("split", SPLITS), ("domain", DOMAINS)):
        given = getattr(record, name)
        if given and given not in known:
            raise RecordError(
                f"bad_{name}", f"{name} {given!r}", f"use one of {', '.join(known)}, or leave it out"
            )
    if record.language and not _LANGUAGE.fullmatch(record.language):
        raise RecordError(
            "bad_language", f"language {record.language[:40]!r}", "use a code such as en or fr-CA"
        )


def _check_content(record: UserRecord, uncaptioned: bool) -> None:
    if record.transcript and record.annotation:
        remedy = "say it as a turn of the annotation"
        raise RecordError("bad_transcript", "a transcript beside an annotation", remedy)
    if record.captions and (record.is_part or record.caption or record.transcript or record.dialogue):
        detail = "captions with times beside start, end, a caption, a transcript or a dialogue"
        raise RecordError("bad_captions", detail, "write a record of its own for what is beside them")
    if record.audio and not (uncaptioned or record.is_told):
        remedy = (
            "give a caption, a transcript, an annotation or a dialogue, or set UserCorpusConfig.uncaptioned"
        )
        raise RecordError("no_content", "audio without anything said about it", remedy)
    heard = dataclasses.replace(record, dialogue=())
    if not record.audio and (heard.is_told or heard.is_part):
        raise RecordError(
            "no_audio",
            "a caption, transcript, annotation or times without audio",
            "give the audio, or use `text`",
        )
    if not (record.audio or record.text or record.dialogue):
        remedy = "give audio and a caption, an annotation or a dialogue; or a text"
        raise RecordError("no_content", "the record has no content", remedy)
