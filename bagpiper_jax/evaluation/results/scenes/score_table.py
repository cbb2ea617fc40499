"""Scores as the report prints them: numbers as text, and a sentence for each row that shows nothing of the model."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from bagpiper_jax.evaluation.benchmarks.protocol import Score

_NEAR = 10.0  # percent; a deaf model further above its baseline than this is marked


@dataclasses.dataclass(frozen=True)
class ScoreLine:
    """A score as it is printed.

    Attributes:
        name, note: what is counted, and the sentence of the score.
        value, baseline, deaf, ceiling, goal: numbers as text, "–" where there is none.
        n: the number of cases.
        verdict: "good" where the goal is reached, "short" where not, "" where nothing is promised.
        marks: sentences on what the controls say against the score.
        share, baseline_share: of the bar, in percent; None where there is no bar or no baseline.
    """

    name: str
    note: str
    value: str
    baseline: str
    deaf: str
    ceiling: str
    goal: str
    n: int
    verdict: str
    marks: tuple[str, ...]
    share: float | None
    baseline_share: float | None


Tables = Mapping[str, Sequence[ScoreLine]]


def score_tables(scores: Mapping[str, Mapping[str, Score]]) -> Tables:
    """Section → its lines; every score has one, whatever it says."""
    return {section: [_line(*named) for named in scored.items()] for section, scored in scores.items()}


def summary(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """How many goals are reached, and how many rows are no better than their baseline."""
    rows = [score for scored in scores.values() for score in scored.values()]
    promised = [score for score in rows if score.goal is not None]
    compared = [score for score in rows if score.baseline is not None]
    low = sum(not score.beats(score.baseline) for score in compared)
    reached = sum(score.reached for score in promised)
    return (
        f"{reached} of {len(promised)} goals are reached. {low} of {len(compared)} rows with a baseline are no better "
        f"than it; they are marked."
    )


def _line(name: str, score: Score) -> ScoreLine:
    has_bar = score.unit == "%" and score.value is not None
    return ScoreLine(
        name.replace("_", " "),
        score.note,
        value=_number(score, score.value),
        baseline=_number(score, score.baseline),
        deaf=_number(score, score.deaf),
        ceiling=_number(score, score.ceiling),
        goal=_number(score, score.goal),
        n=score.expected,
        verdict=_verdict(score),
        marks=tuple(_marks(score)),
        share=score.value if has_bar else None,
        baseline_share=score.baseline,
    )


def _verdict(score: Score) -> str:
    if score.goal is None:
        return ""
    return "good" if score.reached else "short"


def _marks(score: Score) -> Iterator[str]:
    if score.value is None or not math.isfinite(score.value):
        yield "nothing could be measured"
        return
    if not score.beats(score.baseline):
        yield f"at or {'below' if score.higher_is_better else 'above'} its baseline"
    if not score.beats(score.deaf):
        yield "no better than the deaf model"
    if score.unit == "%" and score.deaf is not None and score.deaf > (score.baseline or 0) + _NEAR:
        yield "the deaf model is well above the baseline"


def _number(score: Score, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f} %" if score.unit == "%" else f"{value:.3g}"
