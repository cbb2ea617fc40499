"""Ratings in a judge's reply, as AudioBench reads them.

Source: `eval_llama3_70b.py` of AudioLLMs/AudioBench at e991641d. Graded ratings go from 0 to 5, binary ones are 0 or 1;
both scores are out of 100, and the rating's range is not checked.
"""

from collections.abc import Sequence

SCALES = {"graded": 5, "binary": 1}
"""Kind of rating → the highest."""


def rating(reply: str) -> float | None:
    """The last word of a judge's reply as a number; None if it is none, as in "(4)", "4/5" and "**4**".

    "2 out of 5" is 5, and "nan" is a number: so says the script.
    """
    *_, last = reply.split() or [""]
    try:
        return float(last)
    except ValueError:
        return None


def judge_score(replies: Sequence[str], scale: str) -> float:
    """The mean rating out of 100; a reply without a rating counts 0. Raises ZeroDivisionError: there is no reply.

    Args:
        scale: one of `SCALES`.
    """
    ratings = [rating(reply) or 0.0 for reply in replies]
    return sum(ratings) / len(ratings) * (100 / SCALES[scale])


def success_rate(replies: Sequence[str]) -> float:
    """The share of replies with a rating. Raises ZeroDivisionError: there is no reply."""
    return sum(rating(reply) is not None for reply in replies) / len(replies)
