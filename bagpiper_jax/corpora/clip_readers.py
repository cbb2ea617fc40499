"""Clips that carry their audio along, as tar files, Parquet tables and ESPnet's datasets do.

A reader is a sequence of one split's records with random access, so that any shard of it can be read alone. Reading
needs no TensorFlow; `tasks.file_sources` makes SeqIO sources of readers.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bagpiper_jax.captions import AnnotationError, AudioAnnotation, describe
from bagpiper_jax.corpora import user_records
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

MAX_CHARS = 40_000
"""Longest text of a record."""

MAX_BYTES = 256 * 2**20
"""Most bytes of one member, cell or payload; what claims more is damaged or hostile."""


@dataclasses.dataclass(frozen=True)
class ClipWithAudio:
    """A clip and the audio that it, or its dialogue, names: encoded files of any format by name."""

    clip: Clip
    sounds: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


class ClipReader(Protocol):
    """The records of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ClipWithAudio:
        """One record. Raises RecordError: it cannot be used; `origin` says which it is."""

    def origin(self, index: int) -> str:
        """File and record, for messages: `train-0.tar: rain/0001`."""

    def files(self) -> list[Path]:
        """Everything that the records are made of."""


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What records say that do not say it themselves."""

    domain: str = "mixed"
    language: str = "en"
    licence: str = "unknown"
    source: str = ""


def clip_of(fields: Mapping, split: str, defaults: Defaults, directions: tuple[str, ...] = ()) -> Clip:
    """A checked clip of a record with the fields of `user_records`; a caption it lacks is written from its annotation.

    Raises:
        RecordError: a field is of a wrong type, blank, too long or unknown in its meaning.
    """
    record = user_records.parse({**fields, "split": split}, 0, MAX_CHARS)
    if record.is_part or record.captions:
        remedy = "build a corpus of it first, with UserCorpusConfig, or cut the audio"
        raise RecordError("unread_times", "start, end or captions with times, which are not cut here", remedy)
    annotation, caption = _described(record)
    heard = record.audio or user_records.audio_messages(record.dialogue)
    return Clip(
        id=record.id,
        split=split,
        domain=record.domain or (defaults.domain if heard else "text"),
        audio=record.audio or None,
        duration=annotation.duration if annotation else 0.0,
        caption=caption or None,
        text=record.text or None,
        annotation=annotation.to_json() if annotation else None,
        dialogue=[list(message) for message in record.dialogue] or None,
        source=record.source or defaults.source,
        licence=record.licence or defaults.licence,
        language=record.language or defaults.language,
        group=record.group or record.id,
        directions=list(directions) or None,
    )


def _described(record: user_records.UserRecord) -> tuple[AudioAnnotation | None, str]:
    if record.annotation is None:
        return None, record.caption
    try:
        annotation = AudioAnnotation.from_json(record.annotation)
        return annotation, record.caption or describe(annotation)
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error), "repair the annotation, or give a caption") from error


def matching(directory: Path, patterns: str | tuple[str, ...]) -> list[Path]:
    """The files below a directory that glob patterns name, in order of names.

    Raises:
        CorpusError: a pattern names no file, or one outside the directory.
    """
    found = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise CorpusError(f"pattern {pattern!r} leaves {directory}; put or link the files there")
        here = [path for path in directory.glob(pattern) if path.is_file()]
        if not here:
            raise CorpusError(f"no file matches {directory / pattern}; check the data root and the pattern")
        found.update(here)
    return sorted(found)


def read_part(path: Path, offset: int, size: int) -> bytes:
    """So many bytes of a file. Raises RecordError: there are not so many, or the file cannot be read."""
    if not 0 <= offset or not 0 < size <= MAX_BYTES:
        raise RecordError("bad_span", f"{size} bytes from {offset}", "repair the table that says so")
    try:
        with open(path, "rb") as file:
            data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise RecordError("unreadable_file", f"{path}: {error.strerror}", "check the path") from error
    if len(data) != size:
        raise RecordError("truncated", f"{path} ends {size - len(data)} bytes early", "copy the file again")
    return data
