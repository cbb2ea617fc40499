"""How much of one caption another one says: as text, and by the facts that both tell. Shares, 0 to 1."""

from collections import Counter
from collections.abc import Hashable, Sequence

from bagpiper_jax.captions import parse_caption


def similarity(wanted: str, said: str) -> float:
    """Of the words in alphabetical order, the share that need no editing: RapidFuzz's token_sort_ratio."""
    from rapidfuzz import fuzz, utils

    return fuzz.token_sort_ratio(wanted, said, processor=utils.default_process) / 100


def facts(wanted: str, said: str) -> dict[str, float]:
    """The facts of the caption `wanted` that the caption `said` tells as well, by kind.

    Returns:
        "events": the sounds, speech and instruments that are named, in any order; "spoken_words": the quoted words, in
        order. A kind that `wanted` says nothing of is not in it.
    """
    truth, found = parse_caption(wanted), parse_caption(said)
    shares = {}
    if truth.kinds:
        shares["events"] = _common(truth.kinds, found.kinds) / truth.count
    if truth.words:
        shares["spoken_words"] = common_in_order(truth.words, found.words) / len(truth.words)
    return shares


def common_in_order(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    from rapidfuzz.distance import LCSseq

    return LCSseq.similarity(a, b)


def _common(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    return (Counter(first) & Counter(second)).total()
