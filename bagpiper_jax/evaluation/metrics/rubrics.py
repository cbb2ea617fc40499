"""Ratings by criteria, as MMAR-Rubrics reads them, and the mean of five raters without the highest and the lowest.

Source: `evaluation_rubrics.py` of ddlBoJack/MMAR at 3bce090a; scores from 0 to 1.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bagpiper_jax.outcomes import RecordError

_LIST = re.compile(r"\[\s*\{.*\}\s*\]", re.DOTALL)
RATERS = 5


def rubric_score(reply: str, rubric: Sequence[Mapping[str, Any]]) -> float:
    """The share of all points that a rater gives.

    Args:
        reply: the rater's reply, which holds a list of an object with `name` and `score` for each criterion, in order.
        rubric: the criteria, each with `choices`, the points that it may get.

    Raises:
        RecordError: the reply holds no such list, or points that a criterion cannot get.
    """
    rated = _rated(reply)
    if len(rated) != len(rubric):
        raise _fault(f"it rates {len(rated)} criteria of {len(rubric)}")
    given = [_given(place, item, rubric[place]["choices"]) for place, item in enumerate(rated)]
    most = sum(max(criterion["choices"]) for criterion in rubric)
    return sum(given) / most if most else 0.0


def middle_mean(scores: Sequence[float]) -> float:
    """The mean of what is left of five scores without the highest and the lowest. Raises ValueError: it is not five."""
    if len(scores) != RATERS:
        raise ValueError(f"{len(scores)} scores are not those of {RATERS} raters")
    middle = sorted(scores)[1:-1]
    return sum(middle) / len(middle)


def _rated(reply: str) -> list:
    # From the first list of objects to the last: where a rater gives two, there is none.
    found = _LIST.search(reply)
    try:
        rated = json.loads(found[0] if found else reply)
    except ValueError as error:
        raise _fault(f"it holds no JSON: {error}") from None
    if not isinstance(rated, list):
        raise _fault("its JSON is no list")
    return rated


def _given(place: int, item: Any, choices: Sequence[float]) -> float:
    if not isinstance(item, dict) or not {"name", "score"} <= item.keys():
        raise _fault(f"criterion {place + 1} has no name or no score")
    points = item["score"]
    if not isinstance(points, (int, float)):
        raise _fault(f"the score of criterion {place + 1} is no number")
    if points not in choices:
        raise _fault(f"criterion {place + 1} has {points} points, which are none of {list(choices)}")
    return points


def _fault(detail: str) -> RecordError:
    return RecordError("judge_reply_unreadable", detail, "ask the judge again")
