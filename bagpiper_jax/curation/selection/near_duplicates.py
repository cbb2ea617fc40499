"""Near-duplicates among any number of captions: datasketch's MinHash, banded, sorted one band at a time.

datasketch's own LSH index keeps Python objects for every caption, kilobytes each. Here a caption costs bytes: one key
of a band in memory at a time, its signature on disk.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt32, UInt64

from bagpiper_jax.corpora.assembly import CorpusError

_WORD = re.compile(r"\w+")
_CHUNK = 1 << 14  # pairs of signatures compared at a time
_PARTS = 16  # into which the buckets of a band are divided, to be sorted one after the other


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """When two captions say the same. The release dedups by MinHash; its settings are unknown.

    See docs/reference.md, Caption selection.

    Attributes:
        threshold: the least Jaccard similarity of two captions' sets of shingles, as estimated, with which they count
            as duplicates.
        shingle: the number of words in a shingle.
        permutations: the length of a signature; the estimate's standard error is at most 0.5 / sqrt(permutations).
        seed: what fixes the permutations.
    """

    threshold: float = 0.8
    shingle: int = 3
    permutations: int = 128
    seed: int = 1

    def __post_init__(self):
        if not 0 < self.threshold <= 1 or self.shingle < 1 or self.permutations < 2:
            raise ValueError(
                "threshold must lie in (0, 1], shingle be at least 1 and permutations at least 2"
            )

    @functools.cached_property
    def bands(self) -> tuple[int, int]:
        """How many bands of how many rows lose and confuse the least, with equal weight, around the threshold."""
        shapes = [
            (b, r) for b in range(1, self.permutations + 1) for r in range(1, self.permutations // b + 1)
        ]
        return min(shapes, key=lambda shape: _missed_and_confused(shape[0], shape[1], self.threshold))

    def signatures(self, captions: Sequence[str]) -> UInt32[np.ndarray, "captions permutations"]:
        """MinHash signatures. Raises CorpusError: datasketch is missing."""
        try:
            from datasketch import MinHash
        except ImportError as error:
            raise CorpusError(
                "finding near-duplicates needs datasketch: pip install '.[curation]'"
            ) from error
        shingles = [_shingles(caption, self.shingle) for caption in captions]
        hashes = MinHash.bulk(shingles, num_perm=self.permutations, seed=self.seed, scheme="affine32")
        return np.array([h.hashvalues for h in hashes], np.uint32).reshape(len(captions), self.permutations)

    def keys(self, signatures: UInt32[np.ndarray, "n permutations"]) -> UInt64[np.ndarray, "bands n"]:
        """One key per band: equal where all rows of the band are."""
        bands, rows = self.bands
        keys = np.zeros((bands, len(signatures)), np.uint64)
        for band in range(bands):
            for row in range(rows):
                keys[band] = _mixed(keys[band] ^ signatures[:, band * rows + row])
        return keys


def _missed_and_confused(bands: int, rows: int, threshold: float) -> float:
    """Areas of the S-curve on the wrong sides of the threshold."""
    similarity = (np.arange(200) + 0.5) / 200
    found = 1 - (1 - similarity**rows) ** bands
    return float(np.where(similarity < threshold, found, 1 - found).sum())


def _shingles(caption: str, length: int) -> list[bytes]:
    words = _WORD.findall(caption.lower())
    places = range(max(len(words) - length + 1, 1))
    return [" ".join(words[place : place + length]).encode("utf-8", "backslashreplace") for place in places]


def _mixed(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """SplitMix64's finalizer: a bijection that spreads every bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Stacked:
    """Arrays on disk as if they stood on top of each other; rows are gathered, never the whole."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __getitem__(self, rows: Int64[np.ndarray, " n"]) -> UInt32[np.ndarray, "n permutations"]:
        owners = np.searchsorted(self._ends, rows, side="right")
        found = np.empty((len(rows), self._parts[0].shape[1]), self._parts[0].dtype)
        for owner in np.unique(owners):
            mine = owners == owner
            start = self._ends[owner] - len(self._parts[owner])
            found[mine] = self._parts[owner][rows[mine] - start]
        return found


def find_twins(
    bands: Iterator[UInt64[np.ndarray, " n"]],
    signatures: Stacked,
    score: Float32[np.ndarray, " n"],
    protected: Bool[np.ndarray, " n"],
    alive: Bool[np.ndarray, " n"],
    threshold: float,
) -> Int64[np.ndarray, " n"]:
    """For every caption the row of the better one that it repeats, or -1.

    Of captions that share a band and are similar enough, the best stays: protected ones first (nothing drops
    them), then by score, then the earlier. Similarity is estimated from whole signatures, so that a shared band alone
    drops nothing.

    Args:
        bands: the keys of all captions, band by band; one band is in memory at a time.
        signatures: the signatures of all captions.
        score: the scores of all captions.
        protected: which captions nothing drops.
        alive: which captions take part.
        threshold: the least similarity of two captions of which one repeats the other.
    """
    twin = np.full(len(score), -1, np.int64)
    for keys in bands:
        for part in range(_PARTS):
            rows = np.flatnonzero((keys % np.uint64(_PARTS) == part) & alive & (twin < 0))
            order = np.lexsort((rows, -score[rows], ~protected[rows], keys[rows]))
            _settle(rows[order], keys[rows[order]], signatures, protected, threshold, twin)
    return twin


def _settle(rows, keys, signatures: Stacked, protected, threshold: float, twin) -> None:
    """In every bucket, the best caption takes those like it; then the best of the rest does, until none is left.

    Args:
        rows, keys: the rows of captions and their keys, sorted by bucket, the best first.
        signatures, protected, threshold: as of `find_twins`.
        twin: what is found, by row; it is changed.
    """
    while len(rows):
        heads = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        sizes = np.diff(np.append(heads, len(rows)))
        others = np.flatnonzero(
            np.repeat(sizes > 1, sizes) & ~np.isin(np.arange(len(rows)), heads, assume_unique=True)
        )
        leaders = np.repeat(rows[heads], sizes)[others]
        rows, keys = rows[others], keys[others]
        like = _alike(rows, leaders, signatures, threshold) & ~protected[rows]
        twin[rows[like]] = leaders[like]
        rows, keys = rows[~like], keys[~like]


def _alike(rows, leaders, signatures: Stacked, threshold: float) -> Bool[np.ndarray, " n"]:
    like = np.zeros(len(rows), bool)
    for i in range(0, len(rows), _CHUNK):
        same = signatures[rows[i : i + _CHUNK]] == signatures[leaders[i : i + _CHUNK]]
        like[i : i + _CHUNK] = same.mean(1) >= threshold
    return like
