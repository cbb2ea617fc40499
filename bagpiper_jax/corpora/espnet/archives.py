"""Archives of omniio, first called arkive: Parquet tables that say where in a `.bin` file each payload stands.

Audio is a file of its own there, text and dialogues are compressed with zstd (docs/reference.md, Dataset files). The
released data sets come in this form.
"""

from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.clip_readers import MAX_BYTES, read_part
from bagpiper_jax.corpora.parquet import open_table
from bagpiper_jax.outcomes import RecordError

_SPANS = (  # omniio's columns, then arkive's
    ("id", "start_byte", "end_byte"),
    ("utt_id", "start_byte_offset", "file_size_bytes"),
)


def rows(path: Path) -> Iterator[dict]:
    """The rows of an archive's table: `id`, `path`, `offset`, `size`; `start` and `end` in seconds, None for the whole.

    Raises:
        CorpusError: the table is of another form.
    """
    table = open_table(path)
    names = set(table.schema_arrow.names)
    layout = next((layout for layout in _SPANS if {"path", *layout} <= names), None)
    if layout is None:
        raise CorpusError(f"{path} is no archive of payloads: it has the columns {', '.join(sorted(names))}")
    times = [name for name in ("start_time", "end_time") if name in names]
    key, begin, last = layout
    for batch in table.iter_batches(columns=["path", *layout, *times]):
        for row in batch.to_pylist():
            size = row[last] if last == "file_size_bytes" else _difference(row[last], row[begin])
            yield {
                "id": row[key], "path": row["path"], "offset": row[begin], "size": size,
                "start": row.get("start_time"), "end": row.get("end_time"),
            }  # fmt: skip


def _difference(end: object, begin: object) -> int:
    return end - begin if isinstance(end, int) and isinstance(begin, int) else -1


def payload_text(path: Path, offset: int, size: int) -> str:
    """Text of an archive, decompressed. Raises RecordError."""
    import pyarrow

    data = read_part(path, offset, size)
    try:
        with pyarrow.input_stream(pyarrow.py_buffer(data), compression="zstd") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecordError(
            "corrupt_payload", f"{path} at {offset}: {error}", "write the archive again"
        ) from error
    if len(text) > MAX_BYTES:
        raise RecordError(
            "too_large", f"{path} at {offset} unpacks to over {MAX_BYTES} bytes", "leave it out"
        )
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("bad_text", f"{path} at {offset}: {error}", "save the text as UTF-8") from error
