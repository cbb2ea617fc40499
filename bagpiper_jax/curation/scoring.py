"""A user's scorer over a corpus: CLAP similarity, MOS, aesthetics, anything that hears a clip and reads its caption.

The scorer is a function of one's own, named as `module:function`:

    def scorer(waveforms: list[np.ndarray], captions: list[str], sample_rate: int) -> dict[str, list[float]]:
        ...one value per clip and column

Its columns become `Clip.metrics`, which selection reads (reference section 1.3).
"""

import dataclasses
import importlib
import inspect
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, RecordError
from bagpiper_jax.curation.derived import Derivation, Entry, listing, read_entries
from bagpiper_jax.curation.journal import Journal

SCORES = "scores.jsonl"
Scorer = Callable[[list[np.ndarray], list[str], int], Mapping[str, Sequence]]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """What to score and by what. Records without audio or caption pass.

    Attributes:
        corpora: manifest directories.
        output: directory of the scored corpus and of `scores.jsonl`, from which a killed job continues.
        scorer: `module:function`; the module must be importable.
        version: changes when the scorer does: scores of another version are not taken again.
        batch_clips: clips per call.
        sample_rate: of the waveforms handed over, in Hz.
        max_seconds: longer clips are rejected.
        max_reject_frac: a larger share of rejected clips fails the job.
    """

    corpora: tuple[str, ...]
    output: str
    scorer: str
    version: str = ""
    batch_clips: int = 32
    sample_rate: int = audio.SAMPLE_RATE
    max_seconds: float = 30.0
    max_reject_frac: float = 0.1


def score(config: ScoreConfig) -> Path:
    """Writes the scored corpus.

    Raises:
        CorpusError: no such scorer, or too many clips that cannot be read or scored.
        ManifestError: an input is missing or damaged.
    """
    scorer = find_scorer(config.scorer)
    derivation = Derivation(config.output, config.corpora, "scoring")
    journal = Journal(derivation.directory / SCORES)
    try:
        entries = read_entries(config.corpora, config.output)
        while batch := list(itertools.islice(entries, config.batch_clips)):
            for entry, columns in zip(batch, _scored(config, scorer, journal, batch), strict=True):
                _write(derivation, entry, columns)
    finally:
        journal.close()
    facts = {"records": derivation.kept + derivation.dropped, "settings": dataclasses.asdict(config)}
    directory = derivation.finish(facts, config.max_reject_frac)
    _log.info("%s: %s", directory, listing({"kept": derivation.kept, **derivation.reasons}))
    return directory


def find_scorer(name: str) -> Scorer:
    """The function that `module:function` names. Raises CorpusError."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise CorpusError(f"scorer {name!r} is not found: {error}; write module:function") from error
    if not callable(found) or inspect.isclass(found):
        raise CorpusError(f"scorer {name!r} is no function")
    return found


def _write(derivation: Derivation, entry: Entry, columns: dict | RecordError | None) -> None:
    if isinstance(columns, RecordError):
        derivation.drop(entry.reject(columns))
    elif columns is None:
        derivation.keep(entry.clip)
    else:
        metrics = {**(entry.clip.metrics or {}), **columns}
        derivation.keep(dataclasses.replace(entry.clip, metrics=metrics))


def _scored(
    config: ScoreConfig, scorer: Scorer, journal: Journal, batch: Iterable[Entry]
) -> list[dict | RecordError | None]:
    """Columns, the reason why there are none, or None for what is not scored."""
    results, waiting = [], []
    for place, entry in enumerate(batch):
        results.append(None)
        if entry.clip.audio is None or entry.clip.caption is None:
            continue
        try:
            key = _key(config, entry)
            if (known := journal.get(key)) is not None:
                results[place] = known
            else:
                waiting.append((place, entry, key, _read(config, entry)))
        except RecordError as error:
            results[place] = error
    for (place, _, key, _), columns in zip(waiting, _called(config, scorer, waiting), strict=True):
        results[place] = columns
        if isinstance(columns, dict):
            journal.write(key, answer=columns)
    journal.sync()
    return results


def _key(config: ScoreConfig, entry: Entry) -> str:
    """Changes with scorer, caption and file. Raises RecordError `audio_missing`."""
    path = Path(config.output) / entry.clip.audio
    try:
        status = os.stat(path)
    except OSError as error:
        raise RecordError("audio_missing", f"{path}: {error.strerror}", audio.REMEDIES["missing"]) from error
    file = (path.name, status.st_size, status.st_mtime_ns)
    parts = (config.scorer, config.version, config.sample_rate, entry.clip.id, entry.clip.caption, file)
    return assembly.digest(*parts)


def _read(config: ScoreConfig, entry: Entry) -> np.ndarray:
    try:
        path = Path(config.output) / entry.clip.audio
        return audio.read(path, config.sample_rate, max_seconds=config.max_seconds)
    except audio.AudioError as error:
        raise RecordError(f"audio_{error.reason}", error.detail, audio.REMEDIES[error.reason]) from error


def _called(config: ScoreConfig, scorer: Scorer, waiting: list) -> list[dict | RecordError]:
    """The scorer's columns by clip; where it fails on a batch, each clip is tried alone."""
    if not waiting:
        return []
    waveforms = [waveform for *_, waveform in waiting]
    captions = [entry.clip.caption for _, entry, *_ in waiting]
    try:
        rows = _rows(scorer(waveforms, captions, config.sample_rate), len(waiting))
    except Exception as error:  # a scorer is anyone's code
        if len(waiting) > 1:
            _log.warning("scorer failed on a batch, its clips are tried one by one: %r", error)
            rows = [row for one in waiting for row in _called(config, scorer, [one])]
        else:
            remedy = "see what the scorer makes of this clip"
            rows = [RecordError("scorer_error", f"{type(error).__name__}: {error}"[:300], remedy)]
    return rows


def _rows(columns: Mapping[str, Sequence], count: int) -> list[dict]:
    """Columns turned to one row per clip, as JSON can hold them. Raises ValueError, TypeError."""
    if not isinstance(columns, Mapping) or not columns:
        raise TypeError(f"a scorer returns a dict of columns, got {type(columns).__name__}")
    lengths = {name: len(values) for name, values in columns.items()}
    if set(lengths.values()) != {count}:
        raise ValueError(f"columns must have {count} values each, got {lengths}")
    return [{name: _plain(name, values[row]) for name, values in columns.items()} for row in range(count)]


def _plain(name: str, value) -> float | bool | str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool | str):
        return value
    if not math.isfinite(float(value)):
        raise ValueError(f"{name} is {value}")
    return float(value)
