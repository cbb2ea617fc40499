"""Judges' lines, ratings and rubrics against what the official scripts make of them."""

import math

import pytest
from official_results import golden

from bagpiper_jax.evaluation.metrics import chat_scores, ratings, rubrics
from bagpiper_jax.outcomes import RecordError

_CHAT = golden("air_bench")["chat"]
_FIVE = [{"name": f"C{n}", "choices": [0, 1]} for n in range(1, 6)]


@pytest.mark.parametrize("case", _CHAT["judge_lines"], ids=lambda case: repr(case["gpt_score"]))
def test_chat_lines_count_as_the_script_counts_them(case):
    line = case["gpt_score"]
    # The golden run had eight other rows, all of them good.
    table = chat_scores.chat_scores([("speech_QA", "5 5")] * 8 + [("speech_QA", line)], swapped=False)
    assert (table.fail_num, table.success_num) == (case["fail_num"], case["success_num"])
    assert (chat_scores.points(line) is not None) is case["accepted"]


@pytest.mark.parametrize("case", _CHAT["files"], ids=lambda case: case["name"])
def test_chat_tables_are_those_of_the_script(case):
    rows = [(row["task_name"], row["gpt-score"]) for row in case["rows"]]
    table, printed = chat_scores.chat_scores(rows, swapped="cir" in case["file"]), case["result"]
    for name, category in printed["per_category"].items():
        assert vars(table.categories[name]) == category
    missing = table.categories.keys() - printed["per_category"].keys()
    assert bool(missing) == bool(printed["returncode"])  # the script divides by zero where nothing was judged
    assert all(table.categories[name].llm_avg_score is None for name in missing)
    if not missing:
        found = (table.fail_num, table.success_num, table.percentage)
        assert found == (printed["fail_num"], printed["success_num"], printed["percentage"])


def test_chat_rows_of_the_leaderboard_are_means_of_both_orders():
    tables = [
        chat_scores.chat_scores([(row["task_name"], row["gpt-score"]) for row in case["rows"]], swapped)
        for case, swapped in zip(_CHAT["files"][:2], (False, True), strict=True)
    ]
    final = chat_scores.final_scores(*tables)
    expected = _CHAT["final"]["per_category"]
    assert final == expected | {
        "mixed_audio": _CHAT["final"]["mixed_audio"],
        "average": _CHAT["final"]["average"],
    }


def test_without_a_category_there_is_no_average():
    table = chat_scores.chat_scores([("speech_QA", "8 7")], swapped=False)
    final = chat_scores.final_scores(table, table)
    assert final["speech"] == 7.5 and final["sound"] is None and final["average"] is None


@pytest.mark.parametrize("case", golden("audiobench")["single"], ids=lambda case: repr(case["line"]))
def test_ratings_are_the_last_word(case):
    result = case["result"]["result"]
    assert ratings.judge_score([case["line"]], "graded") == pytest.approx(
        float(result["judge_score"]), abs=0, nan_ok=True
    )
    assert ratings.success_rate([case["line"]]) == result["success_rate"]


@pytest.mark.parametrize("scale", ["graded", "binary"])
def test_ratings_of_a_set_are_those_of_audiobench(scale):
    case = golden("audiobench")[scale]
    assert ratings.judge_score(case["lines"], scale) == case["result"]["result"]["judge_score"]
    assert ratings.success_rate(case["lines"]) == case["result"]["result"]["success_rate"]
    read = [(ratings.rating(line) or 0.0, int(ratings.rating(line) is not None)) for line in case["lines"]]
    assert read == [tuple(each) for each in case["result"]["per_sample"]]


def test_one_nan_poisons_a_mean():
    assert math.isnan(ratings.judge_score(["Rating: 5", "Rating: nan"], "graded"))


@pytest.mark.parametrize("case", golden("mmar")["rubrics"]["parse"], ids=lambda case: case["name"])
def test_rubrics_are_read_or_refused_as_mmar_does(case):
    rubric = _FIVE if isinstance(case["rubric"], str) else case["rubric"]
    if isinstance(case["result"], str):
        with pytest.raises(RecordError, match="judge_reply_unreadable"):
            rubrics.rubric_score(case["raw"], rubric)
    else:
        assert rubrics.rubric_score(case["raw"], rubric) == case["result"]


def test_middle_of_five_needs_five():
    assert rubrics.middle_mean([1.0, 0.8, 0.6, 0.4, 0.2]) == pytest.approx(0.6, abs=1e-15)
    with pytest.raises(ValueError, match="4 scores"):
        rubrics.middle_mean([1.0] * 4)
