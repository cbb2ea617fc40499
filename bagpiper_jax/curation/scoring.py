"""A user's scorer over a corpus: CLAP similarity, MOS, aesthetics, anything that hears a clip and reads its caption.

The scorer is a function of one's own, named as `module:function`:

    def scorer(waveforms: list[np.ndarray], captions: list[str], sample_rate: int) -> dict[str, list[float]]:
        ...one value per clip and column

Its columns become `Clip.metrics`, which selection reads (docs/reference.md, Caption selection).
"""

import collections
import concurrent.futures
import dataclasses
import functools
import importlib
import inspect
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, fault_of
from bagpiper_jax.curation import clip_audio
from bagpiper_jax.curation.derived import (
    Derivation,
    Dropped,
    SeenIds,
    SourceClip,
    read_source_clips,
)
from bagpiper_jax.journal import Results
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

SCORES = "scores.jsonl"
Scorer = Callable[[list[np.ndarray], list[str], int], Mapping[str, Sequence]]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """What to score and by what. Records without audio or caption pass.

    Attributes:
        corpora: the manifest directories to read.
        output: the directory of the scored corpus and of `scores.jsonl`, from which a killed job continues.
        scorer: the function as `module:function`; the module must be importable.
        version: a name that changes when the scorer does: scores of another version are not taken again.
        batch_clips: the number of clips in one call of the scorer.
        sample_rate: the sample rate of the waveforms handed over, in Hz.
        max_seconds: the length of the longest clip that is scored; longer ones are rejected.
        readers: the number of threads that read audio while the scorer works on the batch before.
        shard, num_shards: which part of the clips to take: every `num_shards`-th from the `shard`-th on. Each shard has
            an output of its own.
        max_reject_frac: the largest share of rejected clips with which the job succeeds.
    """

    corpora: tuple[str, ...]
    output: str
    scorer: str
    version: str = ""
    batch_clips: int = 32
    sample_rate: int = audio.SAMPLE_RATE
    max_seconds: float = 30.0
    readers: int = 2
    shard: int = 0
    num_shards: int = 1
    max_reject_frac: float = 0.1

    def __post_init__(self):
        if not 0 <= self.shard < self.num_shards or min(self.batch_clips, self.readers) < 1:
            raise ValueError("shard must lie in [0, num_shards), batch_clips and readers be at least 1")


def score(config: ScoreConfig) -> Path:
    """Writes the scored corpus.

    Raises:
        CorpusError: no such scorer, or too many clips that cannot be read or scored.
        JournalError: another process writes the scores, or the disk takes no more.
        ManifestError: an input is missing or damaged.
    """
    scorer = find_scorer(config.scorer)
    seen = SeenIds()
    with Derivation(config.output, config.corpora, "scoring") as derivation:
        with Results(derivation.directory / SCORES) as results:
            for batch in _read_ahead(config, results):
                for item, columns in zip(batch, _scored(config, scorer, results, batch), strict=True):
                    derivation.write(item.source, _made(seen, item.source.clip, columns))
        facts = {"records": derivation.kept + derivation.dropped, "settings": dataclasses.asdict(config)}
        directory = derivation.finish(facts, config.max_reject_frac)
    _log.info("%s: %s", directory, assembly.listing({"kept": derivation.kept, **derivation.reasons}))
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


def _made(seen: SeenIds, clip: Clip, columns: dict | RecordError | None) -> Clip | Dropped:
    try:
        seen.require_new(clip.id)
        if isinstance(columns, RecordError):
            raise columns
        metrics = {**(clip.metrics or {}), **columns} if columns else clip.metrics
        return dataclasses.replace(clip, metrics=metrics)
    except Exception as error:
        return Dropped(clip.id, fault_of(error))


@dataclasses.dataclass(frozen=True)
class _Item:
    """A clip: its known columns or the reason why there can be none, or key and waveform for the scorer, or neither."""

    source: SourceClip
    known: dict | RecordError | None = None
    key: str = ""
    waveform: np.ndarray | None = None


def _read_ahead(config: ScoreConfig, results: Results) -> Iterator[list[_Item]]:
    """Batches, the next one being read meanwhile."""
    sources = itertools.islice(
        read_source_clips(config.corpora, config.output), config.shard, None, config.num_shards
    )
    batches = iter(lambda: list(itertools.islice(sources, config.batch_clips)), [])
    with concurrent.futures.ThreadPoolExecutor(config.readers) as readers:
        prepare = functools.partial(_prepared, config, results)
        ahead = collections.deque()
        for batch in batches:
            ahead.append([readers.submit(prepare, source) for source in batch])
            if len(ahead) == 2:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]


def _prepared(config: ScoreConfig, results: Results, source: SourceClip) -> _Item:
    if source.clip.audio is None or source.clip.caption is None:
        return _Item(source)
    try:
        path = Path(config.output) / source.clip.audio
        key = _key(config, source.clip, path)
        if known := results.get(key):
            return _Item(source, known=known)
        return _Item(source, key=key, waveform=clip_audio.read(path, config.max_seconds, config.sample_rate))
    except Exception as error:
        return _Item(source, known=fault_of(error))


def _scored(
    config: ScoreConfig, scorer: Scorer, results: Results, batch: Sequence[_Item]
) -> list[dict | RecordError | None]:
    """Columns, the reason why there are none, or None for what is not scored."""
    waiting = [item for item in batch if item.waveform is not None]
    found = {
        item.key: columns for item, columns in zip(waiting, _called(config, scorer, waiting), strict=True)
    }
    for key, columns in found.items():
        if isinstance(columns, dict):
            results.add(key, columns)
    results.sync()
    return [found.get(item.key, item.known) for item in batch]


def _key(config: ScoreConfig, clip: Clip, path: Path) -> str:
    """Changes with scorer, caption and file. Raises RecordError `audio_missing`."""
    file = clip_audio.identity(path)
    parts = (config.scorer, config.version, config.sample_rate, clip.id, clip.caption, file)
    return assembly.digest(*parts)


def _called(config: ScoreConfig, scorer: Scorer, waiting: Sequence[_Item]) -> list[dict | RecordError]:
    """The scorer's columns by clip; where it fails on a batch, each clip is tried alone."""
    if not waiting:
        return []
    waveforms, captions = [item.waveform for item in waiting], [item.source.clip.caption for item in waiting]
    try:
        return [*_rows(scorer(waveforms, captions, config.sample_rate), len(waiting))]
    except Exception as error:  # a scorer is anyone's code
        if len(waiting) > 1:
            _log.warning("scorer failed on a batch, its clips are tried one by one: %r", error)
            return [row for item in waiting for row in _called(config, scorer, [item])]
        remedy = "see what the scorer makes of this clip"
        return [RecordError("scorer_error", f"{type(error).__name__}: {error}"[:300], remedy)]


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
