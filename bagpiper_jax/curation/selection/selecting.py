"""Selecting captions: filters, near-duplicates, score-weighted Gumbel top-k, resampling.

See docs/reference.md, Caption selection.

Two passes. The first measures every clip, in parallel and once: a killed job goes on at the piece where it was. Then
columns alone decide, and the second pass writes what was decided. Captions are never held: a clip costs about 70 bytes
of memory (benchmarks/curation.py), and 610 bytes of disk until the job is done, 512 of them its signature.
"""

import bisect
import dataclasses
import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.corpora import assembly
from bagpiper_jax.curation.derived import Derivation, SourceClip, read_source_clips, require_known
from bagpiper_jax.curation.selection import deciding, measuring
from bagpiper_jax.curation.selection.deciding import Columns
from bagpiper_jax.curation.selection.measuring import CANDIDATE, UNTOUCHED, Measures, Piece
from bagpiper_jax.curation.selection.near_duplicates import NearDuplicates, Stacked, find_twins
from bagpiper_jax.curation.selection.quality import CaptionScore
from bagpiper_jax.manifest import DOMAINS, MANIFEST, SPLITS, Clip
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.pipelines.each import for_each

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SelectConfig:
    """What to select from, and how; every stage can be left out.

    Attributes:
        corpora: the manifest directories to read. All are selected from together.
        output: the directory of the selected corpus; its audio paths lead to the inputs' files.
        caption_filter: the basic filters, or None.
        tokenizer: what counts the tokens for the filters: "byte" or a tokenizer.json; "" counts words.
        score: tags, hard filters and weights over `Clip.metrics`, or None where there are no metrics.
        near_duplicates: when two captions count as near-duplicates, or None to keep them all.
        noise: the scale of the Gumbel noise on the score.
        discard_frac: the share of each domain's captions that the noisy score discards.
        source_factors, domain_factors: how often each clip of a source, of a domain, is to occur: below 1, a share is
            kept; above 1, copies are made (`<id>.2`, …).
        split: the split to select from. Other splits pass, and what repeats them is dropped.
        seed: what fixes noise and resampling.
        workers: the number of processes that measure.
        beam: options of an Apache Beam pipeline that measures, such as ('--runner=DirectRunner',); without any, the
            workers do.
    """

    corpora: tuple[str, ...]
    output: str
    caption_filter: CaptionFilter | None = CaptionFilter()
    tokenizer: str = ""
    score: CaptionScore | None = CaptionScore()
    near_duplicates: NearDuplicates | None = NearDuplicates()
    noise: float = 0.1
    discard_frac: float = 0.2
    source_factors: dict[str, float] = dataclasses.field(default_factory=dict)
    domain_factors: dict[str, float] = dataclasses.field(default_factory=dict)
    split: str = "train"
    seed: int = 42
    workers: int = 2
    beam: tuple[str, ...] = ()

    def __post_init__(self):
        if not 0 <= self.discard_frac < 1 or self.noise < 0:
            raise ValueError("discard_frac must lie in [0, 1) and noise not be negative")
        if self.split not in SPLITS or not set(self.domain_factors) <= set(DOMAINS):
            raise ValueError(f"split must be of {SPLITS}, domain_factors name {DOMAINS}")
        if any(
            not 0 <= factor < 100 for factor in (*self.source_factors.values(), *self.domain_factors.values())
        ):
            raise ValueError("factors must lie in [0, 100)")

    @functools.cached_property
    def measures(self) -> Measures:
        return Measures(
            self.caption_filter, self.score, self.near_duplicates, self.tokenizer, self.split,
            self.source_factors, self.domain_factors,
        )  # fmt: skip


def select(config: SelectConfig) -> Path:
    """Writes the selected corpus and returns its directory. The same input gives the same files.

    Raises:
        CorpusError: the output is an input or another corpus, a source is unknown, or nothing is left.
        JournalError: another process writes the output.
        ManifestError: a manifest is missing or has a line that is no clip.
        PipelineError: Apache Beam is to measure, and cannot.
    """
    with Derivation(config.output, config.corpora, "selection") as derivation:
        return _select(config, derivation)


def _select(config: SelectConfig, derivation: Derivation) -> Path:
    work = derivation.directory / "work"
    pieces = _measured(config, work / _key(config))
    columns = Columns.load([f"{piece.stem}.npz" for piece in pieces])
    require_known(config.source_factors, columns.sources, "source")
    twins = _drop_near_duplicates(config, pieces, columns)
    deciding.drop_by_score(columns, config.noise, config.discard_frac, config.seed)
    copies = deciding.resample(columns, config.seed)
    deciding.drop_quoting(columns)
    _write(config, derivation, columns, copies, _Twins(config.corpora, twins, pieces))
    facts = {"records": len(columns), "copies": int((copies - 1).clip(0).sum()), "outcomes": columns.tally()}
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in _OF_THE_MACHINE}
    directory = derivation.finish({**facts, "settings": settings})
    _log.info("%s: %s", directory, assembly.listing(columns.tally()))
    shutil.rmtree(work)
    return directory


_OF_THE_MACHINE = ("workers", "beam")
"""Settings that change nothing of what is selected."""


def _key(config: SelectConfig) -> str:
    """Changes with what the measurements depend on: manifests and settings."""
    paths = [Path(corpus) / MANIFEST for corpus in config.corpora]
    inputs = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.exists()]
    return assembly.digest(dataclasses.asdict(config.measures), inputs, measuring.PIECE_BYTES)


def _measured(config: SelectConfig, work: Path) -> list[Piece]:
    work.mkdir(parents=True, exist_ok=True)
    pieces = measuring.pieces_of(config.corpora, work)
    waiting = [piece for piece in pieces if not piece.done]
    _log.info("%d pieces to measure, %d done before", len(waiting), len(pieces) - len(waiting))
    run = functools.partial(measuring.measure, measures=config.measures)
    if config.beam:
        counts = for_each("measure captions", waiting, functools.partial(_counted, run), config.beam)
        _log.info("Apache Beam counted %s", counts)
        return pieces
    for _ in assembly.parallel_map(run, waiting, config.workers, lambda piece: piece.stem):
        pass
    return pieces


def _counted(measure: Callable[[Piece], None], piece: Piece) -> dict[str, int]:
    """Measures a piece that no other attempt did; returns the number of its clips."""
    if not piece.done:
        measure(piece)
    return {"measured": piece.rows}


def _drop_near_duplicates(
    config: SelectConfig, pieces: list[Piece], columns: Columns
) -> Int64[np.ndarray, " n"]:
    """Marks near-duplicates and gives, for every row, the row that it repeats, or -1."""
    twins = np.full(len(columns), -1, np.int64)
    near = config.near_duplicates
    if not near or not pieces:
        return twins
    opened = {name: [np.load(f"{p.stem}.{name}.npy", mmap_mode="r") for p in pieces] for name in _SIGNED}
    # A caption has a signature if it passed the filters when it was measured. Some clips are marked since then,
    # because their id occurs earlier; they take no part.
    rows = np.flatnonzero(np.concatenate(opened["hashed"]))
    bands = (np.concatenate([keys[band] for keys in opened["keys"]]) for band in range(near.bands[0]))
    alive = columns.is_any(CANDIDATE, UNTOUCHED)[rows]
    found = find_twins(
        bands,
        Stacked(opened["signatures"]),
        columns.score[rows],
        columns.held_out[rows],
        alive,
        near.threshold,
    )
    repeats = rows[found >= 0]
    twins[repeats] = rows[found[found >= 0]]
    of_held_out = columns.held_out[twins[repeats]]
    columns.mark(repeats[~of_held_out], "near_duplicate")
    columns.mark(repeats[of_held_out], "near_duplicate_of_held_out")
    return twins


_SIGNED = ("hashed", "signatures", "keys")


def _write(config: SelectConfig, derivation: Derivation, columns: Columns, copies, twins: "_Twins") -> None:
    """The second pass."""
    for row, source in enumerate(read_source_clips(config.corpora, config.output)):
        if columns.kept[row]:
            for clip in _copied(source.clip, columns.domain[row], int(copies[row])):
                derivation.keep(clip)
        else:
            reason = columns.reason(row)
            derivation.drop(source.reject(_explained(config, source, reason, twins.of(row), columns, row)))


def _copied(clip: Clip, domain: int, copies: int) -> Iterator[Clip]:
    clip = dataclasses.replace(clip, domain=DOMAINS[domain])
    yield clip
    for number in range(2, copies + 1):
        yield dataclasses.replace(clip, id=f"{clip.id}.{number}")


def _explained(
    config: SelectConfig, source: SourceClip, reason: str, twin: str, columns: Columns, row: int
) -> RecordError:
    """Detail and remedy of a drop."""
    if reason == deciding.REPEATED:
        return RecordError(reason, f"{source.clip.id} occurs earlier", "give every clip an id of its own")
    if reason.startswith("near_duplicate"):
        return RecordError(reason, f"says what {twin} says", "raise NearDuplicates.threshold to keep it")
    if reason == deciding.NOT_SELECTED:
        return RecordError(
            reason, f"score {columns.score[row]:.4f}", "lower SelectConfig.discard_frac to keep more"
        )
    if reason == deciding.RESAMPLED:
        return RecordError(reason, f"factor {columns.factor[row]:g}", "raise its source's or domain's factor")
    if reason == deciding.QUOTING:
        return RecordError(reason, "its dialogue plays a clip that was dropped", "see that clip's reject")
    return measuring.explain(source.clip, config.measures, reason)


class _Twins:
    """Names the row that a row repeats, as file and line."""

    def __init__(self, corpora: tuple[str, ...], twins: Int64[np.ndarray, " n"], pieces: list[Piece]):
        self._twins, self._corpora = twins, corpora
        self._starts, row = {}, 0
        for piece in pieces:
            self._starts.setdefault(piece.corpus, row)
            row += piece.rows

    def of(self, row: int) -> str:
        twin = int(self._twins[row])
        if twin < 0:
            return ""
        corpora, starts = list(self._starts), list(self._starts.values())
        place = bisect.bisect_right(starts, twin) - 1
        return f"{Path(corpora[place]) / MANIFEST}:{twin - starts[place] + 1}"
