"""The first pass of selection: manifests cut into pieces of bytes, each measured by a worker, once."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt64

from bagpiper_jax import files
from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.captions.filters import count_words
from bagpiper_jax.corpora.assembly import fault_of
from bagpiper_jax.corpora.user_records import audio_messages
from bagpiper_jax.curation.derived import id_hash, manifest_of, read_clips
from bagpiper_jax.curation.selection.near_duplicates import NearDuplicates
from bagpiper_jax.curation.selection.quality import CaptionScore
from bagpiper_jax.manifest import DOMAINS, Clip
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.text import load_tokenizer

PIECE_BYTES = 8 << 20
CANDIDATE, UNTOUCHED = "", "untouched"
"""Verdicts of captions that selection is about, and of what passes: other splits, and records without a caption."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """How one clip is judged on its own.

    Attributes:
        caption_filter, score, near_duplicates: the settings of three stages; None skips the stage.
        tokenizer: what counts the tokens for the filters; "" counts words.
        split: the split to select from.
        source_factors, domain_factors: how often each clip of a source, of a domain, is to occur.
    """

    caption_filter: CaptionFilter | None
    score: CaptionScore | None
    near_duplicates: NearDuplicates | None
    tokenizer: str
    split: str
    source_factors: dict[str, float]
    domain_factors: dict[str, float]

    @functools.cached_property
    def count_tokens(self) -> Callable[[str], int]:
        return token_counter(self.tokenizer)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a manifest: the lines that begin in bytes [start, end). Results go to the files `stem`.*"""

    corpus: str
    start: int
    end: int
    stem: str

    @property
    def done(self) -> bool:
        return Path(f"{self.stem}.npz").exists()

    @property
    def rows(self) -> int:
        with np.load(f"{self.stem}.npz", allow_pickle=False) as columns:
            return len(columns["id"])


def pieces_of(corpora: tuple[str, ...], work: Path, size: int = PIECE_BYTES) -> list[Piece]:
    """All manifests in pieces, in order. Raises ManifestError: one is missing."""
    found = []
    for corpus in corpora:
        total = manifest_of(corpus).stat().st_size
        for start in range(0, total, size):
            found.append(Piece(corpus, start, min(start + size, total), str(work / f"{len(found):06d}")))
    return found


def measure(piece: Piece, measures: Measures) -> None:
    """Measures a piece's clips and saves the columns. Raises ManifestError for a line that is no clip."""
    clips = list(read_clips(piece.corpus, piece.start, piece.end))
    columns = [_measure(clip, measures) for clip in clips]
    ids = np.array([id_hash(clip.id) for clip in clips], np.uint64)
    if measures.near_duplicates:
        _save_signatures(piece, [clip.caption for clip in clips], columns, measures.near_duplicates)
    reasons, verdict = np.unique([column["verdict"] for column in columns], return_inverse=True)
    quotes = [(row, id_hash(other)) for row, clip in enumerate(clips) for other in _quoted(clip)]
    _save(
        f"{piece.stem}.npz",
        id=ids,
        reasons=reasons.astype(str),
        verdict=verdict.astype(np.uint8),
        domain=np.array([DOMAINS.index(column["domain"]) for column in columns], np.uint8),
        score=np.array([column["score"] for column in columns], np.float32),
        factor=np.array([column["factor"] for column in columns], np.float32),
        held_out=np.array([clip.split != measures.split for clip in clips], bool),
        quotes=np.array(quotes, np.uint64).reshape(-1, 2),
        sources=np.array(sorted({clip.source for clip in clips}), str),
    )


def _measure(clip: Clip, measures: Measures) -> dict:
    """Columns of one clip; `verdict` is CANDIDATE, UNTOUCHED or the reason of its rejection."""
    column = {"domain": clip.domain, "score": 0.0, "factor": 1.0, "verdict": UNTOUCHED}
    if clip.split != measures.split or clip.caption is None:
        return column
    try:
        return {**column, **_judged(clip, measures), "verdict": CANDIDATE}
    except Exception as error:
        return {**column, "verdict": fault_of(error).reason}


def _judged(clip: Clip, measures: Measures) -> dict:
    """Domain, score and factor of a candidate. Raises RecordError: it fails a filter."""
    check_caption(clip.caption, clip.duration, measures.caption_filter, measures.count_tokens)
    domain, score = clip.domain, 0.0
    if measures.score:
        metrics = clip.metrics or {}
        domain = measures.score.domain(metrics, clip.domain)
        measures.score.require(metrics, domain)
        score = measures.score.score(metrics, domain)
    factor = measures.source_factors.get(clip.source, 1.0) * measures.domain_factors.get(domain, 1.0)
    return {"domain": domain, "score": score, "factor": factor}


def token_counter(tokenizer: str) -> Callable[[str], int]:
    """What counts the tokens for the filters: the tokenizer of that name, or words for "". Raises TokenizerError."""
    if not tokenizer:
        return count_words
    loaded = load_tokenizer(tokenizer)
    return lambda text: len(loaded.encode(text))


def check_caption(caption: str, seconds: float, filter: CaptionFilter | None, count_tokens) -> None:
    """Raises RecordError `caption_<test>` for a caption that fails the basic filters.

    See docs/reference.md, Rich captions.
    """
    if filter and (reason := filter.reason(caption, seconds, count_tokens)):
        detail = f"{seconds:g} s, {count_tokens(caption)} tokens: {caption[:80]!r}"
        raise RecordError(f"caption_{reason}", detail, "repair the caption or change CaptionFilter")


def explain(clip: Clip, measures: Measures, reason: str) -> RecordError:
    """Why `measure` rejected a clip for that reason, in words."""
    try:
        _judged(clip, measures)
    except Exception as error:
        return fault_of(error)
    return RecordError(reason, "it failed when it was measured, and does not now", "run the job anew")


def _save_signatures(piece: Piece, captions: list, columns: list, near: NearDuplicates) -> None:
    hashed = np.array([caption is not None and c["verdict"] in (CANDIDATE, UNTOUCHED)
                       for caption, c in zip(captions, columns, strict=True)], bool)  # fmt: skip
    signatures = near.signatures([caption for caption, h in zip(captions, hashed, strict=True) if h])
    arrays = {"hashed": hashed, "signatures": signatures, "keys": near.keys(signatures)}
    for name, array in arrays.items():
        with files.whole(f"{piece.stem}.{name}.npy") as path, open(path, "wb") as file:
            np.save(file, array)


def _save(path: str, **columns: np.ndarray) -> None:
    """Writes a piece's columns. The file appears when it is complete, and last: it says that the piece is done."""
    with files.whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **columns)


def _quoted(clip: Clip) -> list[str]:
    """Ids of other clips that a dialogue plays."""
    return [content for content in audio_messages(clip.dialogue) if "/" not in content and content != clip.id]


def uniforms(ids: UInt64[np.ndarray, " n"], seed: int, purpose: str) -> Float64[np.ndarray, " n"]:
    """A number in (0, 1) for every clip, which depends on nothing but its id, the seed and the purpose."""
    salt = np.uint64(id_hash(f"{purpose}/{seed}"))
    values = (ids ^ salt) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    values = values ^ (values >> np.uint64(29))
    return ((values >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52
