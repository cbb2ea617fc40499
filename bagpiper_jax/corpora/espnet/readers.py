"""ESPnet's readers: each gives the values of the wanted samples by id, and a reject for every line it cannot use.

Nothing of a file is ever run: a Kaldi pipe is a reject, not a command.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from bagpiper_jax import files
from bagpiper_jax.corpora import assembly, parquet, user_records
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.espnet import archives
from bagpiper_jax.corpora.espnet.specifiers import DatasetEntry
from bagpiper_jax.corpora.sources.given import lines
from bagpiper_jax.corpora.sources.manifests import sound_of
from bagpiper_jax.outcomes import RecordError


@dataclasses.dataclass(frozen=True)
class Audio:
    """An audio file, or the part of it from `start` that lasts `seconds`.

    With a `size` the file is `size` bytes of `path` from `offset` on.
    """

    path: str
    start: float = 0.0
    seconds: float | None = None
    offset: int = 0
    size: int = 0


@dataclasses.dataclass(frozen=True)
class Payload:
    """A text, or the JSON of messages, that stands compressed in an archive."""

    path: str
    offset: int
    size: int
    is_dialogue: bool

    def load(self) -> object:
        """Raises RecordError: it is damaged."""
        text = archives.payload_text(Path(self.path), self.offset, self.size)
        return parquet.messages(text) if self.is_dialogue else text


@dataclasses.dataclass(frozen=True)
class Value:
    """Text, `Audio`, messages or a `Payload`, with the place it was read at."""

    file: str
    line: int
    content: object


Parsed = tuple[str, object]
"""Sample id and content."""


def read(entry: DatasetEntry, wanted: Collection[str]) -> tuple[dict[str, Value], list[Reject]]:
    """The values of `wanted` samples; of an id that stands twice the last counts, as in ESPnet.

    Raises:
        CorpusError: an unknown or unsupported reader, or no such file.
    """
    values: dict[str, Value] = {}
    rejects: list[Reject] = []
    for path, number, parse in _records(entry):
        sample = ""
        try:
            sample, content = parse()
            if sample not in wanted:
                continue
            if isinstance(content, RecordError):
                raise content
            if sample in values:
                detail = f"{sample} stands on line {number} too, which counts"
                rejects.append(
                    Reject(str(path), values[sample].line, sample, "duplicate_id", detail, "keep one of them")
                )
            values[sample] = Value(str(path), number, content)
        except Exception as error:
            rejects.append(Reject.by(assembly.fault_of(error), str(path), number, sample))
    return values, rejects


def _records(entry: DatasetEntry) -> Iterator[tuple[Path, int, Callable[[], Parsed]]]:
    """File, number and what reads it, of each line of a text file or row of an archive's table."""
    kind = entry.reader.removeprefix("omniio_").removeprefix("arkive_")
    if kind != entry.reader and kind in ("audio", "text", "dialogue"):
        for number, row in enumerate(archives.rows(entry.path), 1):
            yield entry.path, number, functools.partial(_archived, row, kind, entry.path.parent)
        return
    path, parse = _opened(entry)
    for number, line in lines(path):
        yield path, number, functools.partial(parse, line)


def _archived(row: dict, kind: str, folder: Path) -> Parsed:
    """An archive's row; its `.bin` file is below the table's folder where the row says, or beside the table.

    A row of an archive may come from anyone, so it names no file elsewhere.
    """
    sample, path, offset, size = (row[name] for name in ("id", "path", "offset", "size"))
    if not all(isinstance(text, str) and text for text in (sample, path)):
        raise RecordError("bad_line", f"id {sample!r}, path {path!r}", "write the archive again")
    if not all(isinstance(n, int) and n >= 0 for n in (offset, size)) or not size:
        return sample, RecordError("bad_line", f"{size} bytes from {offset}", "write the archive again")
    stated = folder / path
    found = (
        stated
        if files.is_within(folder, stated.absolute()) and stated.is_file()
        else folder / Path(path).name
    )
    path = str(found.absolute())
    if kind != "audio":
        return sample, Payload(path, offset, size, kind == "dialogue")
    start, end = row["start"] or 0.0, row["end"]
    if start < 0 or (end is not None and not end > start):
        return sample, RecordError("bad_line", f"from {start} to {end} s", "write both in seconds")
    seconds = None if end is None else end - start
    return sample, Audio(path, start, seconds, offset, size)


def _opened(entry: DatasetEntry) -> tuple[Path, Callable[[bytes], Parsed]]:
    """The file to read line by line, and how a line is read."""
    if entry.reader == "lhotse_audio":
        path, parse = _lhotse_manifest(entry.path)
    elif entry.reader == "text" and entry.path.suffix == ".jsonl":
        path, parse = entry.path, _text_object
    elif entry.reader in _PARSERS:
        path, parse = entry.path, _PARSERS[entry.reader]
    else:
        known = ", ".join([*_PARSERS, "lhotse_audio", "omniio_audio", "omniio_text", "omniio_dialogue"])
        raise CorpusError(f"entry {entry.name}: reader {entry.reader!r} is none of {known}")
    if not path.is_file():
        raise CorpusError(f"entry {entry.name}: {path} does not exist")
    return path, parse


def _lhotse_manifest(directory: Path) -> tuple[Path, Callable[[bytes], Parsed]]:
    cuts = directory / "cuts.jsonl.gz"  # preferred to recordings, as ESPnet does
    return (cuts, _cut) if cuts.is_file() else (directory / "recordings.jsonl.gz", _recording)


def _two_columns(line: bytes) -> tuple[str, str]:
    try:
        parts = line.decode("utf-8").strip().split(maxsplit=1)
    except UnicodeDecodeError as error:
        raise RecordError("bad_line", str(error), "save the file as UTF-8") from error
    if len(parts) != 2:
        raise RecordError(
            "bad_line", f"{parts[0][:80]!r} stands alone", "write an id, a space and the content"
        )
    return parts[0], parts[1]


def _field(value: dict, name: str, kind: type) -> Any:
    if not isinstance(value.get(name), kind):
        raise RecordError(
            "bad_line",
            f"no {kind.__name__} {name!r}",
            "write the line as docs/reference.md, Dataset files has it",
        )
    return value[name]


def _text_object(line: bytes) -> Parsed:
    return _pair(line, "id", "text", str)


def _dialogue(line: bytes) -> Parsed:
    return _pair(line, "example_id", "messages", list)


def _pair(line: bytes, key: str, name: str, kind: type) -> Parsed:
    value = user_records.load_line(line)
    sample = _field(value, key, str)
    try:
        return sample, _field(value, name, kind)
    except RecordError as error:  # of a sample that may not be wanted
        return sample, error


def _kaldi(line: bytes) -> Parsed:
    sample, path = _two_columns(line)
    if path.endswith("|"):
        detail = f"a command, not a file: {path[:80]}"
        return sample, RecordError("piped_audio", detail, "write its output to a file; nothing is run here")
    return sample, Audio(path)


def _recording(line: bytes) -> Parsed:
    value = user_records.load_line(line)
    return _field(value, "id", str), _file_of(value)


def _cut(line: bytes) -> Parsed:
    value = user_records.load_line(line)
    sample = _field(value, "id", str)
    recording = value.get("recording")
    if not isinstance(recording, dict):
        return sample, _unsupported("a cut without a recording of its own, such as a mix or padding")
    audio = _file_of(recording)
    if isinstance(audio, RecordError):
        return sample, audio
    channel = value.get("channel", 0)
    if (min(channel) if isinstance(channel, list) and channel else channel) != 0:
        return sample, _unsupported(f"channel {channel}")
    start, seconds = value.get("start", 0.0), value.get("duration")
    if not all(isinstance(x, int | float) for x in (start, seconds)) or start < 0 or seconds <= 0:
        return sample, RecordError("bad_line", f"start {start}, duration {seconds}", "write both in seconds")
    return sample, Audio(audio.path, float(start), float(seconds))


def _file_of(recording: dict) -> Audio | RecordError:
    """The one file of a Lhotse recording."""
    try:
        return Audio(sound_of(recording))
    except RecordError as error:  # of a sample that may not be wanted
        return error


def _unsupported(detail: str) -> RecordError:
    return RecordError("unsupported_audio", detail, "write the audio to a file of its own")


_PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    "text": _two_columns,
    "dialogue": _dialogue,
    "kaldi_audio": _kaldi,
}
