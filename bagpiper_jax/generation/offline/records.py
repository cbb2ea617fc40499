"""What many requests are read from: a JSONL, or a folder of clips. One record at a time, nothing of it trusted."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from bagpiper_jax import audio, files, strict, typed
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.user_records import load_line, read_lines
from bagpiper_jax.generation.replies import GeneratorError
from bagpiper_jax.manifest import is_id
from bagpiper_jax.outcomes import RecordError

_LONGEST_ID = 200
"""Bytes: a file name has 255, and a temporary one is longer than the file's own."""
_LARGEST_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Record:
    """One request, as a line of a JSONL has it.

    Attributes:
        id: names the reply and its audio file.
        text: a caption or a request to turn into audio; "" where a clip is asked about.
        audio: the clip, relative to the folder of the JSONL; "" where audio is asked for.
        question: about the clip; "" asks for its caption.
        seed: of sampling, instead of that of the settings.
        begun: text that the reply begins with.
    """

    id: str
    text: str = ""
    audio: str = ""
    question: str = ""
    seed: int | None = None
    begun: str = ""

    def __post_init__(self):
        """Raises RecordError: the fields are not what a request has, or the id names no file."""
        if fault := typed.mistyped(self):
            raise RecordError("wrong_type", fault, "mend the field")
        if not is_id(self.id) or self.id.startswith(".") or len(self.id.encode()) > _LONGEST_ID:
            remedy = (
                f"use letters, digits, '-', '_' and '.', at most {_LONGEST_ID} bytes, not starting with '.'"
            )
            raise RecordError("bad_id", f"id {self.id[:80]!r} names no file", remedy)
        for name in ("text", "question", "begun"):
            if bad := strict.unusable(getattr(self, name)):
                raise RecordError("bad_text", f"{name} holds {bad}", "remove control characters")
        if bool(self.text.strip()) == bool(self.audio):
            remedy = "give either the text that is to become audio, or the audio that is asked about"
            raise RecordError("no_request", "neither text nor audio, or both", remedy)
        if self.question and not self.audio:
            raise RecordError("no_audio", "a question without audio", "name the clip in the field `audio`")
        if self.seed is not None and not 0 <= self.seed <= _LARGEST_SEED:
            raise RecordError("bad_seed", f"seed {self.seed}", f"use 0 to {_LARGEST_SEED}")


@dataclasses.dataclass(frozen=True)
class Read:
    """What stands at one place of the input: a request, or why there is none.

    Attributes:
        file, line: the place; the line is 0 where the record is not a line.
        id: as far as known.
        record: the request.
        clip: the path of its audio, which lies in the folder that it may lie in.
        fault: what is wrong with it.
    """

    file: str
    line: int
    id: str
    record: Record | None = None
    clip: Path | None = None
    fault: RecordError | None = None


class Source(Protocol):
    """Where records are read."""

    def count(self) -> int:
        """How many records there are."""
        ...

    def __iter__(self) -> Iterator[Read]:
        """The records in order, each read when it is asked for."""
        ...


class RequestFile:
    """A JSONL of requests."""

    def __init__(self, path: str | os.PathLike):
        """Raises GeneratorError: there is no such file."""
        self.path = Path(path)
        if not self.path.is_file():
            raise GeneratorError(f"{path} is no file; name a JSONL of requests with --requests")

    def count(self) -> int:
        return sum(1 for _ in read_lines(self.path))

    def __iter__(self) -> Iterator[Read]:
        for number, line in read_lines(self.path):
            yield read_line(self.path, number, line)


class ClipFolder:
    """All files of a folder and its folders, hidden ones aside, as clips that the same is asked about."""

    def __init__(self, path: str | os.PathLike, question: str = ""):
        """Raises GeneratorError: it holds no files."""
        self.path, self._question = Path(path), question
        self._names = sorted(_files_below(self.path))
        if not self._names:
            raise GeneratorError(f"{path} holds no files; name a folder of clips, or one clip, with --audio")

    def count(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Read]:
        for name in self._names:
            id, file = _id_of(name), str(self.path / name)
            try:
                record = Record(id, audio=name, question=self._question)
                read = Read(file, 0, id, record, _clip(self.path, name))
            except Exception as error:
                read = Read(file, 0, id, fault=assembly.fault_of(error))
            yield read


def _files_below(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(place, name), folder)


def _id_of(name: str) -> str:
    id = assembly.safe_id(name)
    return id if len(id.encode()) <= _LONGEST_ID else f"clip-{assembly.digest(name)}"


def read_line(path: Path, number: int, line: bytes) -> Read:
    """What a line of a JSONL asks, whatever is in it."""
    id = ""
    try:
        fields = load_line(line)
        id = _told_id(fields)
        record = _record(fields)
        clip = _clip(path.parent, record.audio) if record.audio else None
        return Read(str(path), number, id, record, clip)
    except Exception as error:  # a line may hold anything; the others go on
        return Read(str(path), number, id, fault=assembly.fault_of(error))


def _record(fields: dict[str, Any]) -> Record:
    """Raises RecordError."""
    known = {field.name for field in dataclasses.fields(Record)}
    if unknown := sorted(fields.keys() - known):
        said = f"fields {', '.join(unknown)[:200]} are not read"
        raise RecordError("unknown_field", said, f"a request has {', '.join(sorted(known))}")
    given = {name: value for name, value in fields.items() if value is not None}
    if "id" not in given:
        raise RecordError("bad_id", "no id", "give every request an id of its own")
    return Record(**given)


def _told_id(fields: dict[str, Any]) -> str:
    id = fields.get("id")
    return id[:_LONGEST_ID] if isinstance(id, str) else ""


def _clip(folder: Path, name: str) -> Path:
    """The path of a clip. Raises RecordError: it leads out of the folder, or there is no such file."""
    if not files.is_within(folder, name):
        remedy = "keep clips in the folder, or below it; links that lead out of it count as outside"
        raise RecordError("outside_audio", f"{name[:200]} is not within {folder}", remedy)
    clip = folder / name
    if not os.path.isfile(clip):
        raise RecordError("missing_audio", f"{clip} is no file", audio.REMEDIES["missing"])
    return clip
