"""Scores of captions and answers, each beside its controls: what a model would score without hearing, and at best."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from bagpiper_jax.captions import ParsedCaption
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.metrics.caption_agreement import common_in_order

Value = TypeVar("Value")

GOALS = {
    "kinds_in_order": 90.0,
    "event_count": 95.0,
    "spoken_words": 70.0,
    "cycle_kinds_in_order": 75.0,
    "cycle_spoken_words": 50.0,
    "answers": 80.0,
    "sft_kinds_in_order": 85.0,
    "request_caption_kinds_in_order": 92.0,
    "request_caption_spoken_words": 85.0,
    "request_audio_kinds_in_order": 65.0,
}
"""Percentages that a nano model trained on the embedded corpus should reach on held-out scenes."""

_TOPIC_LEAD, _HIGH_BASELINE, _TOPIC_GOAL = 20.0, 70.0, 90.0


def rotated(values: Sequence[Value]) -> list[Value] | None:
    """Every clip's value in the place of its neighbour: what a deaf model has. None where there is one clip alone."""
    return [*values[1:], *values[:1]] if len(values) > 1 else None


@dataclasses.dataclass(frozen=True)
class _Fact:
    """How one fact of captions is counted.

    Attributes:
        note: what is counted.
        right: (heard, true) → the number of cases that are right.
        cases: true → the number of cases.
        guess: training captions → (true → the number that the most frequent training answer gets right).
    """

    note: str
    right: Callable[[ParsedCaption, ParsedCaption], int]
    cases: Callable[[ParsedCaption], int]
    guess: Callable[[Sequence[ParsedCaption]], Callable[[ParsedCaption], int]]

    def share(self, heard: Sequence[ParsedCaption], truth: Sequence[ParsedCaption]) -> float:
        return sum(self.right(a, b) for a, b in zip(heard, truth, strict=True)) / self.total(truth)

    def total(self, truth: Sequence[ParsedCaption]) -> int:
        return sum(map(self.cases, truth))

    def score(self, name, heard, truth, training, ceiling) -> Score:
        deaf, lucky, total = rotated(heard), self.guess(training), self.total(truth)
        return Score(
            name, 100 * self.share(heard, truth), "%", total, total, note=self.note,
            baseline=100 * (sum(map(lucky, truth)) / total),
            deaf=None if deaf is None else 100 * self.share(deaf, truth),
            ceiling=None if ceiling is None else 100 * self.share(ceiling, truth),
            goal=GOALS.get(name),
        )  # fmt: skip


def caption_scores(
    heard: Sequence[ParsedCaption],
    truth: Sequence[ParsedCaption],
    training: Sequence[ParsedCaption],
    prefix: str = "",
    ceiling: Sequence[ParsedCaption] | None = None,
) -> list[Score]:
    """Event kinds in order, kinds per place and as a set, event count, and spoken words.

    The deaf control takes for every clip what was heard in the next one.

    Args:
        heard: the facts in the model's captions, in the order of `truth`.
        truth: the facts of the annotations.
        training: the training split's truth, whose most frequent answers are the baselines.
        prefix: put before every name.
        ceiling: the facts in captions of the best that could be heard, in the order of `truth`.
    """
    return [
        fact.score(prefix + name, heard, truth, training, ceiling)
        for name, fact in _FACTS.items()
        if fact.total(truth)
    ]


def told(heard: ParsedCaption, true: ParsedCaption) -> dict[str, float]:
    """The share of each fact of one caption that is right, 0 to 1; a fact that `true` has no case of is not in it."""
    return {
        name: fact.right(heard, true) / fact.cases(true) for name, fact in _FACTS.items() if fact.cases(true)
    }


def most_frequent(values: Iterable) -> Any:
    """The most frequent value, the first seen among equals; None of nothing."""
    return max(Counter(values).items(), key=lambda item: item[1], default=(None, 0))[0]


def _agreement(fact: Callable[[ParsedCaption], Any], note: str) -> _Fact:
    def guess(training):
        common = most_frequent(map(fact, training))
        return lambda true: common == fact(true)

    return _Fact(note, lambda heard, true: fact(heard) == fact(true), lambda true: 1, guess)


def _of_the_mix(
    fact: Callable[[ParsedCaption], Any],
    note: str,
    told: Callable[[ParsedCaption], bool] = lambda caption: bool(caption.room),
) -> _Fact:
    """A fact that is `told` of clips mixed from known parts alone: those whose room is known."""

    def guess(training):
        common = most_frequent(fact(caption) for caption in training if told(caption))
        return lambda true: int(told(true) and common == fact(true))

    def right(heard, true):
        return int(told(true) and fact(heard) == fact(true))

    return _Fact(note, right, lambda true: int(told(true)), guess)


def _at_their_places(a: Sequence[str], b: Sequence[str]) -> int:
    return sum(x == y for x, y in zip(a, b, strict=False))


def _common_kinds(training: Sequence[ParsedCaption]) -> Callable[[ParsedCaption], int]:
    places = range(max((caption.count for caption in training), default=0))
    common = [most_frequent(c.kinds[place] for c in training if c.count > place) for place in places]
    return lambda true: _at_their_places(common, true.kinds)


def _common_word(training: Sequence[ParsedCaption]) -> Callable[[ParsedCaption], int]:
    """Says the most frequent word as often as it takes."""
    common = most_frequent(word for caption in training for word in caption.words)
    return lambda true: true.words.count(common)


_FACTS = {
    "kinds_in_order": _agreement(lambda c: c.kinds, "captions whose event kinds are right and in order"),
    "kind_set": _agreement(lambda c: tuple(sorted(c.kinds)), "captions whose event kinds are right"),
    "kind_per_place": _Fact(
        "events whose kind stands at its place",
        lambda heard, true: _at_their_places(heard.kinds, true.kinds),
        lambda true: true.count,
        _common_kinds,
    ),
    "event_count": _agreement(lambda c: c.count, "captions with the right number of events"),
    "spoken_words": _Fact(
        "spoken words that the caption quotes, in order",
        lambda heard, true: common_in_order(heard.words, true.words),
        lambda true: len(true.words),
        _common_word,
    ),
    "voices": _of_the_mix(
        lambda c: tuple(event.voice for event in c.events if event.domain == "speech"),
        "captions that tell the voices in order",
        lambda c: bool(c.room and c.words),
    ),
    "overlaps": _of_the_mix(
        lambda c: tuple(event.over for event in c.events), "captions that tell which events overlap"
    ),
    "background": _of_the_mix(
        lambda c: tuple((event.kind, event.strength) for event in c.background),
        "captions that tell what is in the background, and how it is heard",
    ),
    "acoustics": _of_the_mix(lambda c: (c.room, c.noise), "captions that tell the room and the noise"),
}


def answer_score(
    answers: Sequence[str],
    questions: Sequence[tuple[str, str]],
    training: Iterable[tuple[str, str]],
    deaf: Sequence[str] | None = None,
    ceiling: Sequence[str] | None = None,
) -> Score:
    """How many questions are answered to the letter, blanks and case aside.

    Args:
        answers: the model's, in the order of `questions`.
        questions, training: (topic, true answer); the baseline gives each topic its most frequent training answer.
        deaf, ceiling: the model's answers when it is given another clip's audio, and the true caption.
    """
    seen: dict[str, list[str]] = {}
    for topic, answer in training:
        seen.setdefault(topic, []).append(_plain(answer))
    guesses: Mapping[str, str] = {topic: most_frequent(given) for topic, given in seen.items()}

    def share(given: Sequence[str] | None) -> float | None:
        if given is None:
            return None
        return 100 * _mean(right_answer(a, true) for a, (_, true) in zip(given, questions, strict=True))

    return Score(
        "answers", share(answers), "%", len(questions), len(questions), note="questions answered to the letter",
        baseline=100 * _mean(guesses.get(topic) == _plain(true) for topic, true in questions),
        deaf=share(deaf), ceiling=share(ceiling), goal=GOALS["answers"],
    )  # fmt: skip


def answers_by_topic(
    answers: Sequence[str],
    questions: Sequence[tuple[str, str]],
    training: Iterable[tuple[str, str]],
    deaf: Sequence[str] | None = None,
    ceiling: Sequence[str] | None = None,
) -> list[Score]:
    """`answer_score` of each topic's questions alone under the topic's name, in alphabetical order."""
    training, found = list(training), []
    for topic in sorted({topic for topic, _ in questions}):
        places = [place for place, (asked, _) in enumerate(questions) if asked == topic]
        parts = ([given[p] for p in places] if given is not None else None for given in (deaf, ceiling))
        score = answer_score([answers[p] for p in places], [questions[p] for p in places], training, *parts)
        found.append(dataclasses.replace(score, name=topic, goal=_topic_goal(score.baseline or 0.0)))
    return found


def _topic_goal(baseline: float) -> float:
    """Twenty points above the topic's own baseline; a fixed share where that leaves too little room."""
    return _TOPIC_GOAL if baseline > _HIGH_BASELINE else baseline + _TOPIC_LEAD


def right_answer(answer: str, true: str) -> bool:
    """Whether an answer is right to the letter, blanks and case aside."""
    return _plain(answer) == _plain(true)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def _mean(values: Iterable) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else 0.0
