"""Word error rates: edits between what was said and what was heard, over the words that were said.

The edit distance is RapidFuzz's, as it is jiwer's. Rates are shares: 0.05 is 5 %.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class WordErrors:
    """The edits that turn a reference into a hypothesis.

    Attributes:
        substitutions, deletions, insertions: the edits of each kind.
        words: the words of the reference.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per word of the reference. Raises ZeroDivisionError: the reference is empty."""
        return self.edits / self.words


def word_errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> WordErrors:
    """The fewest edits between two sequences of words, or of characters."""
    from rapidfuzz.distance import Levenshtein

    counts = {"replace": 0, "delete": 0, "insert": 0}
    for edit in Levenshtein.editops(reference, hypothesis):
        counts[edit.tag] += 1
    return WordErrors(counts["replace"], counts["delete"], counts["insert"], len(reference))


def total_rate(errors: Iterable[WordErrors]) -> float | None:
    """All edits over all words, as recognition is scored; None where there are no words."""
    found = list(errors)
    words = sum(each.words for each in found)
    return sum(each.edits for each in found) / words if words else None


def mean_rate(errors: Iterable[WordErrors]) -> float | None:
    """The mean of the utterances' rates, as zero-shot speech is scored; short utterances weigh as much as long ones.

    None where there are none; utterances without words are left out.
    """
    rates = [each.rate for each in errors if each.words]
    return sum(rates) / len(rates) if rates else None
