"""The published quality filters of rich captions (docs/reference.md, Rich captions)."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable

from bagpiper_jax import strict
from bagpiper_jax.captions.markup import markup_in

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_NGRAM = 5


def count_words(text: str) -> int:
    """Whitespace-separated words: a stand-in for a tokenizer's count."""
    return len(text.split())


@dataclasses.dataclass(frozen=True)
class CaptionFilter:
    """Thresholds, inclusive; the defaults are the published ones. `reason` applies them.

    Whatever the thresholds, a caption holds words, and neither control characters nor markup of chat templates.

    Attributes:
        min_tokens, max_tokens: the least and most tokens of a caption, by the caller's tokenizer.
        max_seconds: the longest clip; every clip must also be longer than 0.
        max_repeated_chars, max_repeated_words: the longest run of one character or word.
        max_ngram_repetition: share of 5-grams that occurred before.
        min_unique_words: distinct words over words.
        min_word_length, max_word_length: mean length of a word in characters.
        max_uppercase: share of upper-case letters among letters.
    """

    min_tokens: int = 200
    max_tokens: int = 800
    max_seconds: float = 30.0
    max_repeated_chars: int = 5
    max_repeated_words: int = 3
    max_ngram_repetition: float = 0.1
    min_unique_words: float = 0.3
    min_word_length: float = 2.0
    max_word_length: float = 15.0
    max_uppercase: float = 0.5

    def reason(
        self, caption: str, seconds: float, count_tokens: Callable[[str], int] = count_words
    ) -> str | None:
        """The name of the first test that the caption of a clip of that length fails, or None if it is good."""
        words = [word.lower() for word in _WORD.findall(caption)]
        if not words:
            return "blank"
        if strict.unusable(caption):
            return "unusable_characters"
        if markup_in(caption):
            return "markup"
        if not 0 < seconds <= self.max_seconds:
            return "duration"
        tokens = count_tokens(caption)
        mean_length = sum(map(len, words)) / len(words)
        tests = {
            "too_few_tokens": tokens < self.min_tokens,
            "too_many_tokens": tokens > self.max_tokens,
            "repeated_characters": longest_run(caption) > self.max_repeated_chars,
            "repeated_words": longest_run(words) > self.max_repeated_words,
            "repeated_phrases": ngram_repetition(words) > self.max_ngram_repetition,
            "few_unique_words": len(set(words)) / len(words) < self.min_unique_words,
            "word_length": not self.min_word_length <= mean_length <= self.max_word_length,
            "uppercase": uppercase_ratio(caption) > self.max_uppercase,
        }
        return next((name for name, failed in tests.items() if failed), None)


def longest_run(items: Iterable) -> int:
    """Length of the longest run of equal neighbours, runs of white space aside."""
    runs = ((key, sum(1 for _ in run)) for key, run in itertools.groupby(items))
    return max((length for key, length in runs if not key.isspace()), default=0)


def ngram_repetition(words: list[str], n: int = _NGRAM) -> float:
    """Share of n-grams that repeat an earlier one; 0 for texts shorter than n words."""
    ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1.0 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def uppercase_ratio(text: str) -> float:
    """Share of upper-case letters among letters; 0 where there is no letter."""
    letters = [character for character in text if character.isalpha()]
    return sum(character.isupper() for character in letters) / len(letters) if letters else 0.0


def filter_counts(reasons: Iterable[str | None]) -> dict[str, int]:
    """How many captions were kept (key "kept") and rejected, by reason, most frequent first."""
    return dict(collections.Counter(reason or "kept" for reason in reasons).most_common())
