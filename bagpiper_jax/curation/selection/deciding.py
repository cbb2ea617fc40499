"""The decisions of selection, on columns of all clips at once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

from bagpiper_jax.curation.selection.measuring import CANDIDATE, UNTOUCHED, uniforms

KEPT = "kept"
REPEATED, NOT_SELECTED, RESAMPLED, QUOTING = (
    "repeated_id",
    "not_selected",
    "resampled_out",
    "quotes_a_dropped_clip",
)


@dataclasses.dataclass
class Columns:
    """What is known of every clip, and its verdict so far: an index of `reasons`.

    Attributes:
        id: the hashes of the clips' ids.
        domain: the clips' domains as indices of `manifest.DOMAINS`.
        score: the clips' scores.
        factor: how often each clip is to occur.
        held_out: whether a clip belongs to another split than the one selected from.
        verdict: the verdicts so far as indices of `reasons`.
        quotes: (row, hash of another clip's id) for every clip that a dialogue plays.
        reasons: the names of verdicts.
        sources: the name of every source.
    """

    id: UInt64[np.ndarray, " n"]
    domain: UInt8[np.ndarray, " n"]
    score: Float32[np.ndarray, " n"]
    factor: Float32[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    verdict: UInt8[np.ndarray, " n"]
    quotes: UInt64[np.ndarray, "m 2"]
    reasons: list[str]
    sources: set[str]

    @classmethod
    def load(cls, files: Sequence[str]) -> "Columns":
        """The columns of all files, in order; clips whose id occurred before are marked."""
        names = ("id", "domain", "score", "factor", "held_out")
        parts = {name: [] for name in (*names, "verdict", "quotes")}
        reasons, sources, rows = [CANDIDATE, UNTOUCHED], set(), 0
        for file in files:
            with np.load(file, allow_pickle=False) as part:
                for name in names:
                    parts[name].append(part[name])
                parts["verdict"].append(_coded(part["reasons"], part["verdict"], reasons))
                parts["quotes"].append(part["quotes"] + np.array([rows, 0], np.uint64))
                sources |= set(map(str, part["sources"]))
                rows += len(part["id"])
        columns = cls(reasons=reasons, sources=sources, **_stacked(parts))
        columns.mark(_repeated(columns.id), REPEATED)
        return columns

    def __len__(self) -> int:
        return len(self.id)

    def mark(self, rows: Int64[np.ndarray, " k"], reason: str) -> None:
        """Gives rows a verdict."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.verdict[rows] = self.reasons.index(reason)

    def is_any(self, *reasons: str) -> Bool[np.ndarray, " n"]:
        """Which rows have one of some verdicts."""
        return np.isin(self.verdict, [self.reasons.index(reason) for reason in reasons])

    @property
    def kept(self) -> Bool[np.ndarray, " n"]:
        """Which rows are not dropped so far."""
        return self.verdict < 2  # CANDIDATE, UNTOUCHED

    def reason(self, row: int) -> str:
        """The verdict of a row."""
        return self.reasons[self.verdict[row]]

    def tally(self) -> dict[str, int]:
        """Clips by outcome; sums to all clips."""
        counts = np.bincount(self.verdict, minlength=len(self.reasons))
        names = [KEPT, *self.reasons[1:]]
        return {name: int(number) for name, number in zip(names, counts, strict=True) if number}


_DTYPES = {
    "id": np.uint64, "domain": np.uint8, "score": np.float32, "factor": np.float32, "held_out": bool,
    "verdict": np.uint8,
}  # fmt: skip


def _stacked(parts: dict[str, list]) -> dict[str, np.ndarray]:
    quotes = np.concatenate([np.zeros((0, 2), np.uint64), *parts["quotes"]])
    return {n: np.concatenate([np.zeros(0, d), *parts[n]]) for n, d in _DTYPES.items()} | {"quotes": quotes}


def _coded(
    names: np.ndarray, verdict: UInt8[np.ndarray, " n"], reasons: list[str]
) -> UInt8[np.ndarray, " n"]:
    """Indices of `names` as indices of `reasons`, which grows by those not met before."""
    reasons += [str(name) for name in names if str(name) not in reasons]
    return np.array([reasons.index(str(name)) for name in names], np.uint8)[verdict]


def _repeated(ids: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, " k"]:
    """Rows whose id an earlier row has."""
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    return order[1:][ids[1:] == ids[:-1]]


def drop_by_score(columns: Columns, noise: float, discard_frac: float, seed: int) -> None:
    """Gumbel top-k in each domain: keeps the largest of score + noise · Gumbel(0, 1).

    See docs/reference.md, Caption selection.

    Noise is a function of seed and id: neither the order of the clips nor other clips change it.
    """
    candidates = columns.is_any(CANDIDATE)
    for domain in np.unique(columns.domain[candidates]):
        rows = np.flatnonzero(candidates & (columns.domain == domain))
        gumbel = -np.log(-np.log(uniforms(columns.id[rows], seed, "gumbel")))
        noisy = columns.score[rows] + noise * gumbel
        discarded = int(discard_frac * len(rows))
        columns.mark(rows[np.argsort(noisy, kind="stable")[:discarded]], NOT_SELECTED)


def resample(columns: Columns, seed: int) -> Int64[np.ndarray, " n"]:
    """How often each clip occurs: whole parts of its factor surely, the rest by chance; none is a drop."""
    copies = np.ones(len(columns), np.int64)
    rows = np.flatnonzero(columns.is_any(CANDIDATE))
    least = np.floor(columns.factor[rows]).astype(np.int64)
    copies[rows] = least + (uniforms(columns.id[rows], seed, "resampling") < columns.factor[rows] - least)
    columns.mark(rows[copies[rows] == 0], RESAMPLED)
    return copies


def drop_quoting(columns: Columns) -> None:
    """Dialogues that play a dropped clip go too."""
    if not len(columns.quotes):
        return
    kept = columns.kept
    dropped_ids = np.setdiff1d(columns.id[~kept], columns.id[kept])
    for _ in range(len(columns.quotes)):  # at most a chain of all; mostly one round
        rows, others = columns.quotes[:, 0].astype(np.int64), columns.quotes[:, 1]
        fallen = np.unique(rows[columns.kept[rows] & np.isin(others, dropped_ids)])
        if not len(fallen):
            return
        columns.mark(fallen, QUOTING)
        dropped_ids = np.union1d(dropped_ids, columns.id[fallen])
