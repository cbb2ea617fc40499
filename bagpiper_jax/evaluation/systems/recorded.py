"""Recorded replies under test: everything can be scored again without a model."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax import files, strict
from bagpiper_jax.corpora import assembly
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Benchmark, Reply
from bagpiper_jax.evaluation.systems.config import RecordedSystem

PREDICTIONS = "predictions.jsonl"
_SOUNDS = (".wav", ".flac", ".mp3", ".ogg")
_MISSING = Reply(fault="missing_reply", detail="the recorded replies have none of this id")


class RecordedUnderTest:
    """A `System` for one benchmark."""

    costs, width = False, 64

    def __init__(self, config: RecordedSystem, benchmark: Benchmark):
        """Reads the replies. Raises BenchmarkError: there is nothing of that name, or it is of no known form."""
        place = _place(Path(config.path), benchmark.name)
        path = Path(config.path).absolute()
        self.name = config.name or (path.stem if path.is_file() else path.name)
        self._replies, self.remarks = _read(place, benchmark)
        self.identity: dict[str, Any] = {
            "kind": "recorded",
            "path": str(config.path),
            "content": _content(place),
        }

    async def answer(self, item: str, asked: Asked, sound: Path) -> Reply:
        """As `System.answer`."""
        reply = self._replies.get(item) or self._replies.get(assembly.safe_id(item)) or _MISSING
        if reply.fault:
            return reply
        if asked.wants == "audio" and reply.audio is None:
            return dataclasses.replace(reply, fault="no_sound", detail="the recorded reply has no sound")
        if asked.wants == "audio" and not os.path.isfile(reply.audio):
            return dataclasses.replace(reply, fault="missing_sound", detail=f"{reply.audio} is no file")
        return reply


def _place(path: Path, name: str) -> Path:
    """The file or folder that holds the replies to a benchmark."""
    if not path.exists():
        raise BenchmarkError(
            f"{path} does not exist; name a file or folder of replies with RecordedSystem.path"
        )
    if path.is_dir() and (path / name).exists():
        path = path / name
    return path / PREDICTIONS if (path / PREDICTIONS).is_file() else path


def _read(place: Path, benchmark: Benchmark) -> tuple[Mapping[str, Reply], list[str]]:
    """Item → reply, and what is wrong with what was read."""
    own = getattr(benchmark, "recorded", None)
    if place.is_file() and place.suffix == ".jsonl" and (own is None or _is_ours(place)):
        return _of_lines(place)
    if own is not None:
        return dict(own(place)), []
    if place.is_dir():
        return _of_folder(place)
    raise BenchmarkError(
        f"{place} is of no known form: {benchmark.name} takes a JSONL with id and reply in each line, or a folder of "
        "WAVs that are named by their items' ids"
    )


def _is_ours(path: Path) -> bool:
    """Whether the first line that can be read has a reply, which the files of official scripts call otherwise."""
    for _, line in _lines(path):
        try:
            return "reply" in strict.loads(line)
        except (ValueError, TypeError):
            continue
    return False


def _of_folder(folder: Path) -> tuple[dict[str, Reply], list[str]]:
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): Reply(audio=path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SOUNDS and not path.name.startswith(".")
    }
    return found, [] if found else [f"{folder} holds no sounds"]


def _of_lines(path: Path) -> tuple[dict[str, Reply], list[str]]:
    """Of a JSONL: {"id", "reply": "text"}, or with text and audio as our predictions have them."""
    found: dict[str, Reply] = {}
    unreadable: list[int] = []
    for number, line in _lines(path):
        id, reply = _reply(line, path.parent)
        if id is None:
            unreadable.append(number)
        elif id in found and found[id] != reply:
            found[id] = Reply(fault="duplicate_reply", detail=f"{path} has several replies to {id}")
        else:
            found[id] = reply
    remarks = []
    if unreadable:
        count = len(unreadable)
        remarks.append(
            f"{count} line{'s' * (count > 1)} of {path} cannot be read, the first is line {unreadable[0]}"
        )
    if not found:
        remarks.append(f"{path} holds no replies")
    return found, remarks


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}; name another file") from error


def _reply(line: bytes, folder: Path) -> tuple[str | None, Reply]:
    """The id of a line, None where it tells none, and its reply, whatever is in it."""
    try:
        fields = strict.loads(line)
        id, given = fields["id"], fields.get("reply")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, _MISSING
    if not isinstance(id, str):
        return None, _MISSING
    parts = given if isinstance(given, dict) else {"text": given}
    values = {name: parts.get(name) or "" for name in ("text", "audio", "fault", "detail")}
    if not all(isinstance(value, str) for value in values.values()):
        return id, Reply(fault="malformed_reply", detail=f"text and audio must be strings: {line[:200]!r}")
    sound = folder / values["audio"] if values["audio"] else None
    return id, Reply(values["text"], sound, values["fault"], values["detail"])


def _content(place: Path) -> str:
    """What changes with the replies: the content of a file, the names and sizes of a folder's files."""
    if place.is_file():
        return files.sha256(place)
    names = (f"{path.relative_to(place)} {path.stat().st_size}" for path in sorted(place.rglob("*")))
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
