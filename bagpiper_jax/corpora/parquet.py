"""Rows of Parquet tables, one clip each, with the audio in the table, as the Hugging Face Hub has data sets.

Audio is a struct of `bytes` and `path`, or plain bytes; a dialogue is a list of [role, modality, content], a list of
such structs, or either as JSON. Tables that say where payloads stand in `.bin` files are ESPnet's: `espnet.archives`.
"""

import bisect
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.clip_readers import MAX_BYTES, ClipWithAudio, Defaults, clip_of
from bagpiper_jax.corpora.user_records import FIELDS, audio_messages, is_audio_message, refuse_unread_audio
from bagpiper_jax.outcomes import RecordError

_MESSAGE = ("role", "modality", "content")


class ParquetReader:
    """`clip_readers.ClipReader` over tables with embedded audio.

    Args:
        columns: field of `user_records` → column; other fields are read from the column of their name. A dialogue's
            audio messages name the row's audio by its `path` or by the row's id.

    A row of a table without an audio column is refused where another column names audio or holds some.

    Raises:
        CorpusError: a file is no Parquet table, or lacks a column.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        split: str,
        columns: Mapping[str, str] = {},  # noqa: B006
        defaults: Defaults = Defaults(),
    ):
        unknown = sorted(set(columns) - set(FIELDS))
        if unknown:
            raise CorpusError(
                f"columns for {', '.join(unknown)}, which are no fields; known: {', '.join(FIELDS)}"
            )
        self._paths, self._split, self._defaults = list(paths), split, defaults
        self._tables = [open_table(path) for path in self._paths]
        self._columns = [_present(p, t, columns) for p, t in zip(self._paths, self._tables, strict=True)]
        self._unread = [_unread(t, c) for t, c in zip(self._tables, self._columns, strict=True)]
        self._ends = list(_running(table.metadata.num_rows for table in self._tables))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> ClipWithAudio:
        file, row = self._place(number)
        read = tuple(self._columns[file].values())
        values = _row(self._tables[file], row, (*read, *self._unread[file]))
        fields = {ours: values[theirs] for ours, theirs in self._columns[file].items()}
        found = _clip_with_audio(fields, f"{self._paths[file].stem}-{row}", self._split, self._defaults)
        if not audio_messages(found.clip.dialogue):
            refuse_unread_audio({column: values[column] for column in self._unread[file]})
        return found

    def origin(self, number: int) -> str:
        file, row = self._place(number)
        return f"{self._paths[file].name}: row {row}"

    def files(self) -> list[Path]:
        return self._paths

    def _place(self, number: int) -> tuple[int, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        file = bisect.bisect_right(self._ends, number)
        return file, number - (self._ends[file - 1] if file else 0)


def open_table(path: Path):
    """A `pyarrow.parquet.ParquetFile`. Raises CorpusError: it is none."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
        _ = table.schema_arrow
        groups = [
            table.metadata.row_group(number).num_rows for number in range(table.metadata.num_row_groups)
        ]
        if min(groups, default=0) < 0 or sum(groups) != table.metadata.num_rows:
            raise ValueError(f"{table.metadata.num_rows} rows in groups of {groups[:5]}")
    except Exception as error:  # of damaged footers pyarrow raises errors of every sort
        raise CorpusError(f"{path} is no Parquet table: {error}; copy it again") from error
    return table


def _running(counts: Iterable[int]) -> Iterable[int]:
    total = 0
    for count in counts:
        total += count
        yield total


def _present(path: Path, table, columns: Mapping[str, str]) -> dict[str, str]:
    """Field → column of those that the table has; a column that was asked for must be there."""
    names = set(table.schema_arrow.names)
    absent = sorted(set(columns.values()) - names)
    if absent:
        raise CorpusError(f"{path} has no column {', '.join(absent)}; it has: {', '.join(sorted(names))}")
    found = {field: columns.get(field, field) for field in FIELDS if columns.get(field, field) in names}
    if not set(found) & {"caption", "text", "annotation", "dialogue"}:
        has = ", ".join(sorted(names))
        raise CorpusError(
            f"{path} has no column to learn from; map one, columns={{'caption': …}}; it has: {has}"
        )
    return found


def _unread(table, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Columns in which audio could stand unnoticed: of a table without an audio column all that hold no numbers."""
    import pyarrow.types

    if "audio" in columns:
        return ()
    plain = (pyarrow.types.is_primitive, pyarrow.types.is_null)
    return tuple(
        field.name
        for field in table.schema_arrow
        if field.name not in columns.values() and not any(is_plain(field.type) for is_plain in plain)
    )


@functools.lru_cache(maxsize=2)
def _group(table, group: int, columns: tuple[str, ...]):
    """The last row groups read: rows are read in order, and a group decodes whole."""
    try:
        return table.read_row_group(group, columns=list(columns))
    except Exception as error:  # of damaged pages pyarrow raises errors of every sort
        raise RecordError("corrupt_row", f"row group {group}: {error}", "write the table again") from error


def _row(table, row: int, columns: tuple[str, ...]) -> dict:
    for group in range(table.metadata.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if row < rows:
            return _group(table, group, columns).slice(row, 1).to_pylist()[0]
        row -= rows
    raise IndexError(row)


def _clip_with_audio(fields: dict, name: str, split: str, defaults: Defaults) -> ClipWithAudio:
    fields = {field: value for field, value in fields.items() if value is not None}
    fields["id"] = clip_id = assembly.safe_id(str(fields.get("id", name)))
    sounds, audio_path = {}, ""
    if "audio" in fields:
        sounds[clip_id], audio_path = _embedded(fields["audio"])
        fields["audio"] = clip_id
    if "annotation" in fields and isinstance(fields["annotation"], str):
        fields["annotation"] = _json(fields["annotation"], "annotation")
    if "dialogue" in fields:
        names = {audio_path: clip_id} if audio_path else {}
        fields["dialogue"] = [_renamed(m, names) for m in messages(fields["dialogue"])]
    return ClipWithAudio(clip_of(fields, split, defaults), sounds)


def _embedded(cell: object) -> tuple[bytes, str]:
    """Bytes and path of an audio cell."""
    path = ""
    if isinstance(cell, dict):
        cell, path = cell.get("bytes"), cell.get("path") or ""
    if not isinstance(cell, bytes) or not cell:
        detail = f"audio is a {type(cell).__name__}" + (f" with only the path {path!r}" if path else "")
        raise RecordError("no_audio", detail, "write the file's bytes into the table")
    if len(cell) > MAX_BYTES:
        raise RecordError("too_large", f"audio of {len(cell)} bytes", "cut the recording into pieces")
    return cell, path


def _renamed(message: object, names: Mapping[str, str]) -> object:
    """A message whose audio is the row's own names it by the clip's id."""
    if is_audio_message(message):
        return [message[0], "audio", names.get(message[2], message[2])]
    return message


def messages(cell: object) -> list:
    """A dialogue cell as [role, modality, content] triples. Raises RecordError."""
    value = _json(cell, "dialogue") if isinstance(cell, str) else cell
    if not isinstance(value, list):
        raise RecordError("bad_dialogue", f"a {type(value).__name__}", "write a list of messages")
    return [[m.get(key) for key in _MESSAGE] if isinstance(m, dict) else m for m in value]


def _json(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("bad_json", f"{what}: {error}", "write valid JSON") from error
