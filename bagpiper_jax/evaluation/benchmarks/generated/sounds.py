"""The sounds of replies, and scores made of what evaluators say of them."""

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bagpiper_jax.audio import AudioError
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Item, Judged, Reply, Score, Tools
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


def at_hand(tools: Tools, *names: str) -> tuple[Any, str]:
    """The first of these evaluators that is here, and ""; else None, and what the last one needs."""
    missing = ""
    for name in names:
        try:
            return tools.evaluator(name), ""
        except MissingEvaluatorError as error:
            missing = str(error)
    return None, missing


def judge(judged: Sequence[Judged], by: Callable[[Path, Item], Any]) -> list[Any]:
    """What is said of the sounds that are there and can be used."""
    found = []
    for each in judged:
        with contextlib.suppress(RecordError), audible(each.reply) as path:
            found.append(by(path, each.item))
    return found


def score(name: str, values: Sequence[float], expected: int, unit: str = "", note: str = "") -> Score:
    """The mean of values; in "%" it is multiplied by 100."""
    if not values:
        return Score(name, None, unit, 0, expected, note="no sound could be judged")
    return Score(
        name, statistics.fmean(values) * (100 if unit == "%" else 1), unit, len(values), expected, note=note
    )


def rounded(score: Score, places: int) -> Score:
    """A score as a script prints it."""
    return dataclasses.replace(score, value=None if score.value is None else round(score.value, places))


def mean(judged: Sequence[Judged], reading: str, unit: str = "") -> Score:
    """The mean of a verdict over the items that have it."""
    verdicts = (each.verdicts.get(reading) for each in judged)
    values = [each.value for each in verdicts if each is not None and each.value is not None]
    return score(reading, values, len(judged), unit)
