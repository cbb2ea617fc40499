"""Data sets of Hugging Face on disk: Arrow files of `save_to_disk`, Parquet files as the Hub has them.

Sound that lies in a table is written to a file of its own first, once, so that it is read and cut as any other.
"""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.clip_readers import MAX_BYTES
from bagpiper_jax.corpora.sources.given import Given
from bagpiper_jax.corpora.sources.tables import fields_of
from bagpiper_jax.outcomes import RecordError

_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|dev|test)(?:[^a-z]|$)")
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
           "dev": "validation", "test": "test"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of a data set.

    Attributes:
        directory: the data set.
        paths: its tables.
        unpacked: where sound that lies in them is written.
    """

    directory: Path
    paths: tuple[Path, ...]
    unpacked: Path

    def records(self) -> Iterator[Given]:
        for path in self.paths:
            number = 0
            for batch in _batches(path):
                for place in range(batch.num_rows):
                    number += 1
                    yield Given(
                        str(path), number, functools.partial(self._fields, path, number, batch, place)
                    )

    def _fields(self, path: Path, number: int, batch, place: int) -> dict:
        row = batch.slice(place, 1).to_pylist()[0]
        is_divided = len({self._split(each) for each in self.paths}) > 1
        found = fields_of({"split": self._split(path) if is_divided else None, **row})
        if isinstance(found.get("audio"), bytes | dict):
            found["audio"] = self._file(found["audio"])
            found.setdefault("group", Path(found["audio"]).stem)  # and not where it is written
        place = path.relative_to(self.directory).with_suffix("").parts
        found.setdefault("id", assembly.safe_id("-".join((*place, str(number)))))
        return found

    def _split(self, path: Path) -> str | None:
        """The split that a table's name tells; where all are of one, as on the Hub of `train`, it tells nothing."""
        name = _SPLIT.search(path.relative_to(self.directory).as_posix().lower())
        return _SPLITS[name[1]] if name else None

    def _file(self, cell: bytes | dict) -> str:
        """The path of a cell's sound: its own file, or one that is written."""
        data, path = (cell.get("bytes"), cell.get("path") or "") if isinstance(cell, dict) else (cell, "")
        if not isinstance(data, bytes) or not data:
            if isinstance(path, str) and path and (self.directory / path).is_file():
                return os.fspath(self.directory / path)
            raise RecordError("no_audio", f"neither bytes nor a file: {str(path)[:80]!r}", "embed the audio")
        if len(data) > MAX_BYTES:
            raise RecordError("too_large", f"audio of {len(data)} bytes", "cut the recording into pieces")
        suffix = Path(path).suffix if isinstance(path, str) else ""
        target = self.unpacked / (hashlib.sha256(data).hexdigest()[:24] + suffix)
        if not target.is_file():
            with files.explained(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            files.replace(target, data)
        return os.fspath(target.absolute())


def _batches(path: Path) -> Iterator:
    """Record batches of one table. Raises CorpusError: it is none, or damaged."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as table:
                yield from table.iter_batches(batch_size=64)
        else:
            import pyarrow

            with pyarrow.memory_map(os.fspath(path)) as file, pyarrow.ipc.open_stream(file) as table:
                yield from table
    except GeneratorExit:
        raise
    except Exception as error:  # of damaged tables pyarrow raises errors of every sort
        raise CorpusError(f"{path} is no whole table: {error}; copy it again") from error
