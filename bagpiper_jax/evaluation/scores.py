"""Scores of captions and answers, each beside what the most frequent training answer would score."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from bagpiper_jax.captions import ParsedCaption

TARGETS = {"kinds_in_order": 0.90, "event_count": 0.95, "spoken_words": 0.70, "cycle_kinds_in_order": 0.60}
"""Shares that a nano model trained on the embedded corpus should reach on held-out scenes."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        value: the model's.
        n: the number of cases it is a mean of.
        baseline: the score of the most frequent training answer, or what `note` says; None where there is none.
        target: the score to reach, None where nothing is promised.
        higher_is_better, is_share: whether more is better, and whether it is printed as a percentage.
        note: a sentence that says what is counted.
    """

    value: float
    n: int
    baseline: float | None = None
    target: float | None = None
    higher_is_better: bool = True
    is_share: bool = True
    note: str = ""


def caption_scores(
    heard: Sequence[ParsedCaption],
    truth: Sequence[ParsedCaption],
    training: Sequence[ParsedCaption],
    prefix: str = "",
) -> dict[str, Score]:
    """Event kinds in order, kinds per place and as a set, event count, and spoken words.

    Args:
        heard: the facts in the model's captions, in the order of `truth`.
        truth: the facts of the annotations.
        training: the training split's truth, whose most frequent answers are the baselines.
        prefix: put before every name.
    """
    found = {
        "kinds_in_order": _agreement(
            heard, truth, training, lambda c: c.kinds, "captions whose event kinds are right and in order"
        ),
        "kind_set": _agreement(
            heard, truth, training, lambda c: tuple(sorted(c.kinds)), "captions whose event kinds are right"
        ),
        "kind_per_place": _per_place(heard, truth, training),
        "event_count": _agreement(
            heard, truth, training, lambda c: c.count, "captions with the right number of events"
        ),
        "spoken_words": _words(heard, truth, training),
    }
    return {
        prefix + name: dataclasses.replace(score, target=TARGETS.get(prefix + name))
        for name, score in found.items()
        if score.n
    }


def most_frequent(values: Iterable) -> Any:
    """The most frequent value, the first seen among equals; None of nothing."""
    return max(Counter(values).items(), key=lambda item: item[1], default=(None, 0))[0]


def _agreement(heard, truth, training, fact: Callable[[ParsedCaption], Any], note: str) -> Score:
    guess = most_frequent(fact(caption) for caption in training)
    right = [fact(a) == fact(b) for a, b in zip(heard, truth, strict=True)]
    return Score(_mean(right), len(right), _mean(guess == fact(caption) for caption in truth), note=note)


def _per_place(heard, truth, training) -> Score:
    places = max((caption.count for caption in (*truth, *training)), default=0)
    guess = [most_frequent(c.kinds[place] for c in training if c.count > place) for place in range(places)]
    right, lucky = [], []
    for a, b in zip(heard, truth, strict=True):
        for place, kind in enumerate(b.kinds):
            right.append(place < a.count and a.kinds[place] == kind)
            lucky.append(guess[place] == kind)
    return Score(_mean(right), len(right), _mean(lucky), note="events whose kind stands at its place")


def _words(heard, truth, training) -> Score:
    """The baseline says the most frequent word as often as it takes."""
    guess = most_frequent(word for caption in training for word in caption.words)
    total = sum(len(caption.words) for caption in truth)
    right = sum(common_in_order(a.words, b.words) for a, b in zip(heard, truth, strict=True))
    lucky = sum(caption.words.count(guess) for caption in truth)
    note = "spoken words that the caption quotes, in order"
    return Score(right / total, total, lucky / total, note=note) if total else Score(0.0, 0, note=note)


def common_in_order(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    from rapidfuzz.distance import LCSseq

    return LCSseq.similarity(a, b)


def answer_score(
    answers: Sequence[str], questions: Sequence[tuple[str, str]], training: Iterable[tuple[str, str]]
) -> Score:
    """Share of questions answered to the letter, blanks and case aside.

    Args:
        answers: the model's, in the order of `questions`.
        questions, training: (question, true answer); the baseline gives each question its most frequent
            training answer.
    """
    seen: dict[str, list[str]] = {}
    for question, answer in training:
        seen.setdefault(question, []).append(_plain(answer))
    guesses: Mapping[str, str] = {question: most_frequent(given) for question, given in seen.items()}
    right = [_plain(a) == _plain(true) for a, (_, true) in zip(answers, questions, strict=True)]
    lucky = [guesses.get(question) == _plain(true) for question, true in questions]
    return Score(_mean(right), len(right), _mean(lucky), note="questions answered to the letter")


def final_answer(text: str) -> str:
    """What follows the reasoning of an understanding reply; "" if the reasoning never ended."""
    return text.rpartition("</think>")[2].strip() if "</think>" in text else ""


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def _mean(values: Iterable) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else 0.0
