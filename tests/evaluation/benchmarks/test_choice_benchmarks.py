"""MMAU and MMAR: items of official files, and the tables that the official scripts print."""

import json
import time

import pytest
from official_results import BENCHMARKS, NoTools, RuleJudge, golden, judged, write_json

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.mmar import Mmar
from bagpiper_jax.evaluation.benchmarks.mmau import Mmau
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.benchmarks.records import read_records
from bagpiper_jax.evaluation.benchmarks.registry import open_benchmark

_HUNDRED = BENCHMARKS / "mmau" / "mmau_test_mini_100.json"
_SECTIONS = {
    "Task-wise Accuracy": "task", "Difficulty-wise Accuracy": "difficulty", "Modality-wise Accuracy": "modality",
    "Category-wise Accuracy": "category", "Sub-category-wise Accuracy": "sub-category",
}  # fmt: skip
_STYLES = {
    "gold text": lambda r: r["answer"],
    "letter and gold text": lambda r: f"({'ABCDEFGH'[r['choices'].index(r['answer'])]}) {r['answer']}",
    "letter": lambda r: "ABCDEFGH"[r["choices"].index(r["answer"])],
    "sentence": lambda r: f"The answer is {r['answer']}.",
    "first choice": lambda r: r["choices"][0],
    "other choice": lambda r: next(choice for choice in r["choices"] if choice != r["answer"]),
    "all choices": lambda r: ", ".join(r["choices"]),
}
"""The rules of the golden file, by which each record has its prediction."""


def _as_printed(scores) -> dict:
    """Sections and total of official scores, as the golden files have them."""
    sections: dict[str, dict] = {}
    for score in scores[:-1]:
        kind, name = score.group
        sections.setdefault(kind, {})[name] = [f"{score.value:.2f}", score.scored]
    return {"sections": sections, "total": [f"{scores[-1].value:.2f}", scores[-1].scored]}


def _printed(result: dict) -> dict:
    return {
        "sections": {_SECTIONS[title]: rows for title, rows in result["sections"].items()},
        "total": result["total"],
    }


def _hundred() -> list[dict]:
    return json.loads(_HUNDRED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", golden("mmau")["files"], ids=lambda case: case["name"])
def test_files_are_scored_as_mmau_scores_them(case, tmp_path):
    path = write_json(tmp_path / "mmau-test-mini.json", case["records"])
    if case["name"] == "unknown task":  # the script ends with a KeyError
        with pytest.raises(
            BenchmarkError, match=r"record 1 \(own-001\): 'task' is 'mix', which is none of sound"
        ):
            list(Mmau(tmp_path, NoTools()).items())
        return
    benchmark = Mmau(tmp_path, NoTools())
    if "model_prediction" in case["records"][0]:  # the script divides by zero
        with pytest.raises(
            BenchmarkError, match="no record has 'model_output'.*name the predictions 'model_output'"
        ):
            benchmark.recorded(path)
        return
    scores = benchmark.official(judged(benchmark, benchmark.recorded(path)))
    if case["result"]["error"]:  # a null prediction, at which the script stops
        assert benchmark.recorded(path)["own-001"].fault == "null_reply" and scores[-1].value is None
    else:
        assert _as_printed(scores) == _printed(case["result"]["printed"])
        assert scores[-1].expected == len(case["records"])


@pytest.mark.parametrize("case", golden("mmau")["mini100"]["by_style"], ids=lambda case: case["style"])
def test_a_hundred_official_records_in_seven_styles(case):
    benchmark, style = Mmau(_HUNDRED, NoTools()), _STYLES[case["style"]]
    found = judged(benchmark, {record["id"]: Reply(style(record)) for record in _hundred()})
    assert _as_printed(benchmark.official(found)) == _printed(case["result"])


def test_styles_mixed_with_missing_predictions():
    benchmark, styles = Mmau(_HUNDRED, NoTools()), list(_STYLES.values())
    replies = {
        record["id"]: Reply(styles[place % 7](record))
        for place, record in enumerate(_hundred())
        if place not in (5, 17, 40)
    }
    scores = benchmark.official(judged(benchmark, replies))
    assert _as_printed(scores) == _printed(golden("mmau")["mini100"]["mixed"]["result"])
    assert (scores[-1].scored, scores[-1].expected) == (97, 100) and "leaves missing" in scores[-1].note


@pytest.mark.parametrize("style", ["gold text", "letter and gold text", "letter", "sentence"])
def test_what_names_the_right_choice_is_right_once_parsed(style):
    benchmark = Mmau(_HUNDRED, NoTools())
    wrapped = "Caption of the audio: Two cellos, a dog and rain.\n\n<think>\nnot {}\n</think>\n\n{}"
    replies = {r["id"]: Reply(wrapped.format(r["choices"][-1], _STYLES[style](r))) for r in _hundred()}
    found = judged(benchmark, replies)
    wrong = [
        (each.reply.text, each.verdicts["parsed"]) for each in found if each.verdicts["parsed"].value != 1
    ]
    assert not wrong


@pytest.mark.parametrize("style", ["other choice", "all choices"])
def test_what_names_another_choice_or_all_is_never_right(style):
    benchmark = Mmau(_HUNDRED, NoTools())
    found = judged(benchmark, {r["id"]: Reply(_STYLES[style](r)) for r in _hundred()})
    assert not any(each.verdicts["parsed"].value for each in found)


def test_letters_are_judged_where_there_are_any():
    benchmark = Mmau(_HUNDRED, NoTools())
    replies = {r["id"]: Reply(_STYLES["letter"](r)) for r in _hundred()}
    verdicts = [
        (len(each.item.record["choices"]), each.verdicts["letters"]) for each in judged(benchmark, replies)
    ]
    # lmms-eval knows four letters, though some records have more choices.
    assert all(v.value == 1 or (v.value is None and v.reason == "no_letter" and n > 4) for n, v in verdicts)
    item = next(iter(benchmark.items()))
    assert benchmark.verdicts(item, Reply("some sound"))["letters"].value is None


def test_items_are_the_records(tmp_path):
    items = list(Mmau(_HUNDRED, NoTools()).items())
    assert [item.id for item in items] == [record["id"] for record in _hundred()]
    assert any(isinstance(item.record["category"], list) for item in items)
    assert {len(item.record["choices"]) for item in items} >= {2, 4, 5, 8}
    first, record = items[0], _hundred()[0]
    assert first.asked.clip == _HUNDRED.parent / record["audio_id"] and first.asked.wants == "text"
    assert record["question"] in first.asked.text and all(c in first.asked.text for c in record["choices"])
    assert first.groups == {kind: record[kind] for kind in ("task", "difficulty", "sub-category")}
    json.dumps(first.record)


def test_the_hidden_answers_of_the_test_split_are_submitted(tmp_path):
    records = [{**record, "answer": ""} for record in _hundred()[:3]]
    benchmark = Mmau(write_json(tmp_path / "mmau-test.json", records), NoTools())
    replies = {r["id"]: Reply(f"<think>hm</think>\n\n(A) {r['choices'][0]}") for r in records[:2]}
    found = judged(benchmark, replies)
    assert {v.reason for each in found for v in each.verdicts.values()} == {"hidden_answer"}
    assert benchmark.official(found)[-1].value is None
    benchmark.write(tmp_path / "submission.json", found)
    written = [dict(record.fields) for record in read_records(tmp_path / "submission.json")]
    assert written == [{**r, "model_output": r["choices"][0]} for r in records[:2]] + records[2:]
    assert {id: reply.text for id, reply in benchmark.recorded(tmp_path / "submission.json").items()} == {
        r["id"]: r["choices"][0] for r in records[:2]
    }


def test_ten_thousand_predictions_are_scored_in_three_seconds(tmp_path):
    hundred, styles = _hundred(), list(_STYLES.values())
    records = [
        {**hundred[n % 100], "id": f"{n}", "model_output": styles[n % 7](hundred[n % 100])}
        for n in range(10_000)
    ]
    path = write_json(tmp_path / "mmau-test-mini.json", records)
    benchmark = Mmau(path, NoTools())
    begun = time.process_time()
    scores = benchmark.official(judged(benchmark, benchmark.recorded(path)))
    assert time.process_time() - begun < 3
    assert scores[-1].scored == 10_000


@pytest.mark.parametrize("case", golden("mmar")["files"], ids=lambda case: case["name"])
def test_files_are_scored_as_mmar_scores_them(case, tmp_path):
    records = case["records"] if case["records"] != "same" else golden("mmar")["files"][0]["records"]
    path = write_json(tmp_path / f"MMAR-meta.{case['ext']}", records)
    if case["result"]["error"]:
        with pytest.raises(BenchmarkError, match="'modality' is 'mix', which is none of sound"):
            list(Mmar(tmp_path, NoTools()).items())
        return
    benchmark = Mmar(tmp_path, NoTools())
    found = judged(benchmark, benchmark.recorded(path))
    assert _as_printed(benchmark.official(found)) == _printed(case["result"]["printed"])
    benchmark.write(tmp_path / "out.jsonl", found, "bare")
    assert benchmark.recorded(tmp_path / "out.jsonl") == benchmark.recorded(path)


def _rubric_item(tmp_path, raters: list[int | None]) -> tuple[Mmar, RuleJudge]:
    rubric = [{"name": f"C{n}", "scoring_point": f"point {n}", "choices": [0, 1]} for n in range(1, 6)]
    record = golden("mmar")["files"][0]["records"][0] | {
        "rubric": rubric,
        "cue": ["patter"],
        "thinking": "It patters.",
    }
    record.pop("answer_prediction")
    write_json(tmp_path / "MMAR-meta.jsonl", [record])

    def line(item: str, stage: str) -> str | None:
        given = raters[int(stage.split("_")[1]) - 1]
        if given is None:
            return "I give 4/5"
        return json.dumps([{"name": c["name"], "score": int(n < given)} for n, c in enumerate(rubric)])

    judge = RuleJudge(line)
    return Mmar(tmp_path, judge), judge


@pytest.mark.parametrize(
    "case", golden("mmar")["rubrics"]["trimmed_mean"], ids=lambda case: str(case["points_per_rater"])
)
def test_five_raters_are_asked_as_mmar_rubrics_asks_them(case, tmp_path):
    benchmark, judge = _rubric_item(tmp_path, case["points_per_rater"])
    item = next(iter(benchmark.items()))
    verdict = benchmark.verdicts(item, Reply(f"<think>I hear drops.</think>{case['prediction']}"))["rubrics"]
    assert len({stage.rpartition("_")[0] for _, stage, _ in judge.asked}) == case["judge_calls"]
    if case["not_evaluated"]:
        assert verdict.value is None and verdict.reason == "rater_3_failed"
    else:
        assert verdict.value == pytest.approx(case["score"], abs=1e-15)
    if judge.asked:
        (message,) = judge.asked[0][2]
        assert all(
            part in message["content"] for part in ("I hear drops.", "patter", "point 5", "It patters.")
        )


def test_criteria_without_points_are_named(tmp_path):
    record = golden("mmar")["files"][0]["records"][0] | {"rubric": [{"name": "C1", "choices": []}]}
    write_json(tmp_path / "MMAR-meta.jsonl", [record])
    with pytest.raises(
        BenchmarkError, match="MMAR-meta.jsonl:1: 'rubric' must be a list of objects with choices"
    ):
        list(Mmar(tmp_path, NoTools()).items())


def test_without_a_judge_there_are_no_rubrics(tmp_path):
    benchmark, judge = _rubric_item(tmp_path, [5] * 5)
    replies = {"own-001": Reply("Rain")}
    assert benchmark.official(judged(benchmark, replies))[-1].name == "rubrics"
    benchmark = Mmar(tmp_path, NoTools())
    found = judged(benchmark, replies)
    assert set(found[0].verdicts) == {"bare", "parsed", "letters"}
    assert benchmark.official(found)[-1].name == "accuracy"


def test_thoughts_of_recorded_predictions_are_reasoning(tmp_path):
    record = golden("mmar")["files"][0]["records"][0] | {"thinking_prediction": "Drops, not hail."}
    path = write_json(tmp_path / "MMAR-meta.jsonl", [record])
    benchmark = open_benchmark("mmar", tmp_path, NoTools())
    (found,) = judged(benchmark, benchmark.recorded(path))
    assert found.verdicts["parsed"].value == 1.0
