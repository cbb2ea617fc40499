"""The sounds of replies, and scores made of their verdicts."""

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from bagpiper_jax.audio import AudioError
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Judged, Reply, Score
from bagpiper_jax.outcomes import RecordError

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


@contextlib.contextmanager
def audible(reply: Reply) -> Iterator[Path]:
    """The file of a reply's sound. Raises RecordError: it has none, or one that cannot be used within the block."""
    if reply.audio is None:
        raise RecordError("no_audio", "the reply has no sound")
    try:
        yield Path(reply.audio)
    except AudioError as error:
        raise RecordError(f"audio_{error.reason}", str(error)) from error


def in_folder(folder: Path) -> dict[str, Path]:
    """Name without its ending → sound file. Raises BenchmarkError: there is no such folder, or it has no sound."""
    if not folder.is_dir():
        raise BenchmarkError(f"{folder} is no folder; name the one that holds the sounds, <id>.wav each")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    if not found:
        raise BenchmarkError(f"{folder} holds no sound; put one there for each item, <id>.wav")
    return found


def recorded(folder: Path) -> dict[str, Reply]:
    """Item id → the sound of that name. Raises BenchmarkError, as `in_folder`."""
    return {name: Reply(audio=path) for name, path in in_folder(folder).items()}


def values(judged: Sequence[Judged], reading: str) -> list[float]:
    """The values of all verdicts of that name."""
    found = (each.verdicts.get(reading) for each in judged)
    return [verdict.value for verdict in found if verdict is not None and verdict.value is not None]


def mean(judged: Sequence[Judged], reading: str, unit: str = "") -> Score:
    """The mean of a verdict over the items that have it; in "%" it is multiplied by 100."""
    found = values(judged, reading)
    value = statistics.fmean(found) * (100 if unit == "%" else 1) if found else None
    note = "" if found else "no item has a verdict"
    return Score(reading, value, unit, len(found), len(judged), note=note)
