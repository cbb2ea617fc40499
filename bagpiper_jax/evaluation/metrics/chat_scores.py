"""The judge's lines of AIR-Bench Chat, and what its script makes of them.

Source: `cal_score.py` of OFA-Sys/AIR-Bench at 98324766; points from 1 to 10, higher is better. The judge sees the
reference and the model as assistants 1 and 2, and a second time in the other order, since it prefers one place.
"""

import dataclasses
from collections.abc import Iterable

CATEGORIES = {
    "speech_QA": "speech", "speech_dialogue_QA": "speech",
    "sound_QA": "sound", "sound_generation_QA": "sound",
    "music_QA": "music", "music_generation_analysis_QA": "music",
    "speech_and_sound_QA": "speech_and_sound", "speech_and_music_QA": "speech_and_music",
}  # fmt: skip
"""Task → category, in the order in which the script prints categories."""

MIXED = ("speech_and_sound", "speech_and_music")


@dataclasses.dataclass(frozen=True)
class Category:
    """What the script prints of a category; None where it divides by zero.

    Attributes:
        sum: the lines that count.
        win_rate: the share of them in which the model has more points than the reference.
        gpt4_avg_score, llm_avg_score: the mean points of assistants 1 and 2: the model is the second, and in the
            swapped order the first.
    """

    sum: int
    win_rate: float | None
    gpt4_avg_score: float | None
    llm_avg_score: float | None


@dataclasses.dataclass(frozen=True)
class ChatScores:
    """What the script prints of one order.

    Attributes:
        categories: of each, what is printed of it.
        fail_num, success_num: lines that do not count and lines that do; two parts that are no points count as both.
    """

    categories: dict[str, Category]
    fail_num: int
    success_num: int

    @property
    def percentage(self) -> float | None:
        counted = self.success_num + self.fail_num
        return self.success_num / counted if counted else None


def points(line: str) -> tuple[int, int] | None:
    """Both points of a judge's line; None where the script finds none, as in "8, 7", "8.5 7", "11 7" and "8  7"."""
    parts = _parts(line)
    try:
        first, second = map(int, parts)
    except ValueError:
        return None
    return (first, second) if first <= 10 and second <= 10 else None


def chat_scores(rows: Iterable[tuple[str | None, str]], swapped: bool) -> ChatScores:
    """The table of one order.

    Args:
        rows: the task and the judge's line of each question, in the order of the file; a task that the script does not
            know takes the category of the row before.
        swapped: whether the model was assistant 1.
    """
    pairs = {category: [] for category in CATEGORIES.values()}
    failed = succeeded = 0
    category = ""
    for task, line in rows:
        category = CATEGORIES.get(task or "", category)
        found, divided = points(line), len(_parts(line)) == 2
        succeeded += divided
        failed += found is None
        if found and category:
            pairs[category].append(found)
    return ChatScores({name: _category(each, swapped) for name, each in pairs.items()}, failed, succeeded)


def final_scores(reference_first: ChatScores, model_first: ChatScores) -> dict[str, float | None]:
    """The published rows: each category's mean of both orders, `mixed_audio` of the mixed two, `average` of the four.

    No script of the repository computes them; the rule is that of its README.
    """
    found = {
        name: _mean(category.llm_avg_score, model_first.categories[name].gpt4_avg_score)
        for name, category in reference_first.categories.items()
    }
    mixed = _mean(*(found[name] for name in MIXED))
    four = [value for name, value in found.items() if name not in MIXED]
    return found | {"mixed_audio": mixed, "average": _mean(*four, mixed)}


def _parts(line: str) -> list[str]:
    return line.strip().replace("\n", "").split(" ")


def _category(pairs: list[tuple[int, int]], swapped: bool) -> Category:
    if not pairs:
        return Category(0, None, None, None)
    first, second = zip(*pairs, strict=True)
    wins = sum(a > b if swapped else b > a for a, b in pairs)
    return Category(len(pairs), wins / len(pairs), sum(first) / len(pairs), sum(second) / len(pairs))


def _mean(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
