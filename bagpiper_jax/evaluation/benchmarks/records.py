"""Records of benchmarks' files: JSON lists and JSONL, read with their places and written whole."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax import files, strict
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError


@dataclasses.dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        fields: as the file has them.
        place: where it stands, for messages.
        number: of the record in its file, from 1.
    """

    fields: Mapping[str, Any]
    place: str
    number: int

    def text(self, name: str, default: str | None = None) -> str:
        """A field that must be a string. Raises BenchmarkError: it is none, or is missing and has no default."""
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.fault(
                f"{name!r} must be a string, but is {value!r}" if name in self.fields else f"no {name!r}"
            )
        return value

    def texts(self, name: str, least: int) -> list[str]:
        """A field that must be a list of strings. Raises BenchmarkError: it is none, or is too short."""
        value = self.fields.get(name)
        if (
            not isinstance(value, list)
            or not all(isinstance(each, str) for each in value)
            or len(value) < least
        ):
            raise self.fault(f"{name!r} must be a list of at least {least} strings, but is {value!r}")
        return value

    def one_of(self, name: str, known: Iterable[str]) -> str:
        """A field that must have one of the values. Raises BenchmarkError."""
        value, known = self.text(name), list(known)
        if value not in known:
            raise self.fault(f"{name!r} is {value!r}, which is none of {', '.join(known)}")
        return value

    @property
    def id(self) -> str:
        """The field `id`. Raises BenchmarkError: it is no string."""
        return self.text("id")

    def fault(self, what: str) -> BenchmarkError:
        return BenchmarkError(
            f"{self.place}: {what}; mend the record, or take the file from its publisher again"
        )


def located(files: Path, *names: str) -> Path:
    """The file of a benchmark: `files` itself, or the first of these that the folder has. Raises BenchmarkError."""
    places = [files] if files.is_file() else [place for name in names if (place := files / name).is_file()]
    if not places:
        raise BenchmarkError(
            f"{files} holds no {' and no '.join(names)}; name the folder of the benchmark, or its file"
        )
    return places[0]


def read_records(path: Path) -> list[Record]:
    """The records of a `.json` file, which is a list, or of a `.jsonl` file. Raises BenchmarkError, with the place."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BenchmarkError(
            f"{path} cannot be read: {error.strerror}; name a JSON list or a JSONL file"
        ) from error
    return list(_of_lines(path, content) if path.suffix == ".jsonl" else _of_list(path, content))


def unique_by(records: Iterable[Record], id_of: Callable[[Record], str]) -> list[Record]:
    """The records, after it is seen that no two have one id. Raises BenchmarkError."""
    found: dict[str, Record] = {}
    for record in records:
        if (first := found.setdefault(id_of(record), record)) is not record:
            raise record.fault(f"the id {id_of(record)!r} is that of {first.place} too")
    return list(found.values())


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a `.json` list or a `.jsonl` file, whole or not at all. Raises WriteError."""
    lines = (json.dumps(dict(record), ensure_ascii=False) for record in records)
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(f"{line}\n" for line in lines)
        else:
            file.write("[\n" + ",\n".join(lines) + "\n]\n")


def _of_list(path: Path, content: bytes) -> Iterator[Record]:
    try:
        values = strict.loads(content)
    except ValueError as error:
        raise BenchmarkError(f"{path} is no JSON: {error}; take it from its publisher again") from error
    if not isinstance(values, list) or not values:
        raise BenchmarkError(f"{path} must be a list of records; take it from its publisher again")
    for number, value in enumerate(values, 1):
        named = f" ({value['id']})" if isinstance(value, dict) and "id" in value else ""
        yield _record(value, f"{path}, record {number}{named}", number)


def _of_lines(path: Path, content: bytes) -> Iterator[Record]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            try:
                value = strict.loads(line)
            except ValueError as error:
                raise BenchmarkError(f"{path}:{number}: no JSON: {error}; mend the line") from error
            yield _record(value, f"{path}:{number}", number)
    if not content.strip():
        raise BenchmarkError(f"{path} holds no records; take it from its publisher again")


def _record(value: Any, place: str, number: int) -> Record:
    if not isinstance(value, dict):
        raise BenchmarkError(f"{place}: a record must be an object, but is {str(value)[:80]!r}; mend it")
    return Record(value, place, number)
