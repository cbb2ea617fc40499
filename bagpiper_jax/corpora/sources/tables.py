"""Rows with columns of others' names: CSV and TSV, metadata of audio folders, columns of data sets."""

import csv
import functools
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.sources.given import Given
from bagpiper_jax.corpora.user_records import FIELDS
from bagpiper_jax.outcomes import RecordError

COLUMNS = {
    "file_name": "audio", "path": "audio", "file": "audio", "filename": "audio", "wav": "audio",
    "audio_filepath": "audio", "sentence": "transcript", "transcription": "transcript",
    "description": "caption", "client_id": "speaker", "speaker_id": "speaker", "locale": "language",
    "lang": "language", "license": "licence",
}  # fmt: skip
"""Names that audio folders, Common Voice and other data sets have for our fields."""

_NUMBERS = ("start", "end")
_JSON = ("annotation", "dialogue", "captions")


class _Tabs(csv.excel_tab):
    """As Common Voice writes it, whose quotation marks are those of the sentence."""

    quoting = csv.QUOTE_NONE


def fields_of(row: Mapping) -> dict:
    """A row in our fields: a `text` beside audio is what is said there. Raises RecordError."""
    found = {name: value for name, value in row.items() if value not in (None, "")}
    for theirs, ours in COLUMNS.items():
        if theirs in found and ours not in found:
            found[ours] = found.pop(theirs)
    if "audio" in found and "text" in found and "transcript" not in found:
        found["transcript"] = found.pop("text")
    for name in ("speaker", "id"):
        if isinstance(found.get(name), int):
            found[name] = str(found[name])
    for name in _NUMBERS:
        if isinstance(found.get(name), str):
            found[name] = _number(name, found[name])
    for name in _JSON:
        if isinstance(found.get(name), str):
            found[name] = _json(name, found[name])
    return found


def rows(path: Path) -> Iterator[Given]:
    """The rows of a CSV or TSV with a head. Raises CorpusError: none of its columns is known."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: {error}; save it as UTF-8") from error
    head = text.partition("\n")[0]
    delimiter = max("\t,;", key=head.count)
    dialect = _Tabs if delimiter == "\t" else csv.excel
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect, delimiter=delimiter)
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if not {*FIELDS, *COLUMNS} & set(names):
        known = ", ".join((*FIELDS, *COLUMNS))
        raise CorpusError(
            f"{path} has the columns {', '.join(names) or 'of nothing'}; none is known: {known}"
        )
    for row in reader:
        yield Given(str(path), reader.line_num, functools.partial(_checked, row))


def _checked(row: dict) -> dict:
    if None in row or None in row.values():
        raise RecordError("bad_row", "another number of cells than the head has", "quote cells with commas")
    return fields_of(row)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RecordError("bad_times", f"{name} is {text[:40]!r}", "write seconds") from error


def _json(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("bad_json", f"{name}: {error}", "write valid JSON into the cell") from error
