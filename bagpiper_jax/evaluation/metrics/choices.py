"""Whether a reply is right about a multiple-choice question: the word-set rule of MMAU and MMAR.

Source: `evaluation.py` of Sakshi113/MMAU at 110127f5 and of ddlBoJack/MMAR at 3bce090a, which agree. The rule looks at
sets of words and at nothing else, so "not a violin" is right where "Violin" is, and a letter is never right.
"""

import functools
import re
from collections.abc import Sequence

_WORD = re.compile(r"\b\w+\b")


def words(text: str) -> frozenset[str]:
    """The runs of letters, digits and underscores in a text, in lower case; everything else divides."""
    return frozenset(_WORD.findall(text.lower()))


def is_right(prediction: str, answer: str, choices: Sequence[str]) -> bool:
    """Whether a reply has every word of the answer, and none that only other choices have.

    Choices with the answer's set of words do not count against it: of "C minor" and "C# minor" either is right.

    Args:
        prediction: the reply as it came.
        answer: the text of the right choice.
        choices: the texts of all choices, in any order, with or without the right one.
    """
    said, right = words(prediction), words(answer)
    return bool(said) and right <= said and said.isdisjoint(_of_others(answer, tuple(choices)))


@functools.lru_cache(maxsize=4096)
def _of_others(answer: str, choices: tuple[str, ...]) -> frozenset[str]:
    """The words that only other choices have; asked once per question, however many readings there are."""
    right = words(answer)
    return frozenset().union(*map(words, choices)) - right
