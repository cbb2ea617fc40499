"""One record as its source gives it, and what all readers share."""

import dataclasses
import functools
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax.corpora import user_records
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.outcomes import RecordError


@dataclasses.dataclass(frozen=True)
class Given:
    """One record.

    Attributes:
        file, line: where it stands; line 0 where the record is a file of its own.
        load: its fields, as `user_records` has them. Raises RecordError.
    """

    file: str
    line: int
    load: Callable[[], dict]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a text, gzipped or not. Raises CorpusError: it is damaged."""
    if path.suffix != ".gz":
        yield from user_records.read_lines(path)
        return
    try:
        with gzip.open(path, "rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} is damaged: {error}; copy it again") from error


def objects(path: Path, fields: Callable[[dict], dict] = dict) -> Iterator[Given]:
    """The lines of a JSONL, each with its fields."""
    for number, line in lines(path):
        yield Given(str(path), number, functools.partial(_loaded, line, fields))


def _loaded(line: bytes, fields: Callable[[dict], dict]) -> dict:
    return fields(user_records.load_line(line))


def first_object(path: Path) -> dict:
    """The first object of a JSONL; {} if its first line is none."""
    for _, line in lines(path):
        try:
            return user_records.load_line(line)
        except RecordError:
            break
    return {}


def seconds(value: Mapping, name: str, default: float | None = None) -> Any:
    """A time of a manifest. Raises RecordError `bad_times`."""
    found = value.get(name)
    if found is None and default is not None:
        return default
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < 1e9:
        raise RecordError("bad_times", f"{name} is {str(found)[:40]!r}", "write seconds, 0 or more")
    return float(found)


def spoken(words: object) -> dict:
    """The transcript of what somebody says, where it is a text that is not blank."""
    return {"transcript": words} if isinstance(words, str) and words.strip() else {}
