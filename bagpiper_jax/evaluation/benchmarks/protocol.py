"""What a benchmark is, and what passes between it, the system under test and the tables."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

Modality = Literal["text", "audio"]
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a system under test is given.

    Attributes:
        text: the question, the request, or the line to speak; "" where a clip alone asks for its caption.
        clip: the file of the audio that is asked about, or None.
        wants: what the answer is.
        max_tokens: the longest answer in tokens of text, with room for reasoning and caption before it.
        begun: text that the answer begins with, so that the system only goes on; one that cannot be made to answers
            with the fault `cannot_begin`.
    """

    text: str
    clip: Path | None = None
    wants: Modality = "text"
    max_tokens: int = 1024
    begun: str = ""


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: one of its own within the benchmark.
        asked: what the system is given.
        record: all that the scorer needs, as the benchmark's files have it; JSON-able.
        groups: kind of group → this item's, such as {"task": "music", "difficulty": "hard"}: the rows of tables.
        cluster: items that share it are no independent draws, such as the questions about one clip; "" is the id.
    """

    id: str
    asked: Asked
    record: Mapping[str, Any]
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cluster: str = ""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a system answered, or why it did not.

    Attributes:
        text: the whole answer as it came, reasoning and caption included.
        audio: the file of its sound, or None.
        fault: the reason why there is no answer, one word in snake_case, such as `endpoint_timeout`; "" if there is.
        detail: a sentence about it.
    """

    text: str = ""
    audio: Path | None = None
    fault: str = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is made of one reply by one way of reading it.

    Attributes:
        value: 0 to 1 where right or wrong is judged, else in the unit of the score; None where nothing could be judged.
        answer: what was extracted from the reply.
        reason: why `value` is None, or what it follows from.
    """

    value: float | None
    answer: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Judged:
    """An item with its reply and all verdicts, name → verdict: a line of `predictions.jsonl`.

    Attributes:
        fault: why there are no verdicts: the reply's fault, or the reason why it cannot be judged; "" if there are.
        detail: a sentence about it.
    """

    item: Item
    reply: Reply
    verdicts: Mapping[str, Verdict]
    fault: str = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Score:
    """A cell of a table, beside the controls that have a meaning for it; the others are None.

    Attributes:
        name: of the metric, such as "accuracy" or "fad_yamnet"; a stand-in evaluator has a name of its own.
        value: None where it cannot be computed; `note` says why.
        unit: "%" or the unit's name, or "".
        scored, expected: the items, or what `note` says is counted, that the value is made of, and should be made of.
        group: (kind, name) of the group of items, ("", "") for all.
        reading: the name of the verdicts it is made of, such as "bare", or "" where there is one alone.
        interval: bounds of the 95 % interval, or None.
        note: a sentence that says what one must know.
        baseline: what the most frequent training answer scores, or what `note` says.
        deaf: what the system scores when it is given another clip's sound, or another request.
        ceiling: what it scores when the truth is given, or the best that could be heard.
        goal: what it should score, None where nothing is promised.
        higher_is_better: whether more is better.
    """

    name: str
    value: float | None
    unit: str
    scored: int
    expected: int
    group: tuple[str, str] = ("", "")
    reading: str = ""
    interval: tuple[float, float] | None = None
    note: str = ""
    baseline: float | None = None
    deaf: float | None = None
    ceiling: float | None = None
    goal: float | None = None
    higher_is_better: bool = True

    def beats(self, other: float | None) -> bool:
        """Whether the value is better than that of a control; any is better than that of none."""
        if other is None or self.value is None:
            return other is None
        return self.value > other if self.higher_is_better else self.value < other

    @property
    def reached(self) -> bool:
        """A goal is no achievement where the most frequent answer, or the deaf system, does as well."""
        if self.goal is None or self.value is None:
            return False
        lead = self.value - self.goal if self.higher_is_better else self.goal - self.value
        return lead >= -_ROUNDING and self.beats(self.baseline) and self.beats(self.deaf)


class Tools(Protocol):
    """What a benchmark judges with, besides arithmetic. Safe to call from several threads."""

    def evaluator(self, name: str) -> Any:
        """The evaluator model of that name. Raises MissingEvaluatorError: it is not here; says what to install."""
        ...

    def judge(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        """The judge's raw answer, from the cache if it was given before.

        Raises:
            MissingEvaluatorError: no judge is named.
            RecordError: the judge gave no answer to this item.
        """
        ...


class Benchmark(Protocol):
    """A benchmark. Its class is made as `Class(files, tools)`, and registered under its name, see `registry`.

    Attributes:
        name, version: as tables print them.
        failed: the value of an item that has no verdict, in honest scores: 0 for shares, None where none makes sense
            (then such items are counted, and left out).
        overlaps: training sources that share material with it; a run whose locks name one is marked.

    It may have more:
        unit: of honest scores, "" by default; values in "%" are multiplied by 100, which is the default where
            `failed` is 0.
        recorded(path): item id → Reply, of a file or folder in the form that the official script reads.
        prepare(replies): called once with the item and the reply of all that have one, before any verdict: for models
            that hear many sounds at once faster than one after the other.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    failed: ClassVar[float | None]
    overlaps: ClassVar[Sequence[str]]

    def items(self) -> Iterable[Item]:
        """All items in the order of the files. Raises BenchmarkError: a file is missing or not what it should be."""
        ...

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """What one reply comes to, by every way of reading it; `reply.fault` is "" here. Called from several threads.

        Raises:
            MissingEvaluatorError: the verdicts need what is not here; the benchmark is then left out, and says so.
            RecordError: this reply cannot be judged, and why.
        """
        ...

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """What the official script prints for these replies, its denominators and bugs included."""
        ...
