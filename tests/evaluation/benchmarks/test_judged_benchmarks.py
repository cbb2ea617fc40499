"""AIR-Bench and open questions: official files, official tables, judges in both orders."""

import json

import pytest
from official_results import NoTools, RuleJudge, golden, judged, write_json

from bagpiper_jax.evaluation.benchmarks.air_bench_chat import AirBenchChat
from bagpiper_jax.evaluation.benchmarks.air_bench_foundation import AirBenchFoundation
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.open_qa import OpenQa
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.benchmarks.registry import open_benchmark
from bagpiper_jax.outcomes import RecordError

_FOUNDATION = golden("air_bench")["foundation"]["files"]
_CHAT = golden("air_bench")["chat"]["files"]


@pytest.mark.parametrize("case", _FOUNDATION, ids=lambda case: case["name"])
def test_foundation_is_scored_as_air_bench_scores_it(case, tmp_path):
    path = write_json(tmp_path / "Foundation" / "Foundation_meta.json", case["records"])
    benchmark = open_benchmark("air_bench_foundation", tmp_path, NoTools())
    replies = benchmark.recorded(path)
    scores, printed = benchmark.official(judged(benchmark, replies)), case["result"]
    by_set = {score.group[1]: score for score in scores if score.group[0] == "dataset"}
    if case["name"] == "null response":
        assert [reply.fault for reply in replies.values()] == ["null_reply"]
    elif "exit(1)" in (printed["error"] or ""):
        assert [score.value for score in scores] == [None] and "none of its choices" in scores[0].note
    else:
        assert {name: s.value for name, s in by_set.items() if s.value is not None} == {
            name: row["acc"] for name, row in printed["per_task"].items()
        }
        assert all(by_set[name].scored == row["sum"] for name, row in printed["per_task"].items())
    if printed["returncode"] == 0:
        counts = {score.name: score.value for score in scores}
        assert (counts["total_sum"], counts["fail_num"]) == (printed["total_sum"], printed["fail_num"])
    if "KeyError" in (printed["error"] or ""):
        (stop,) = [score for score in by_set.values() if score.value is None]
        assert stop.group[1] in printed["error"] and "stops here" in stop.note


def test_foundation_pools_data_sets_and_averages_tasks(tmp_path):
    write_json(tmp_path / "Foundation_meta.json", _FOUNDATION[0]["records"])
    benchmark = AirBenchFoundation(tmp_path, NoTools())
    scores = benchmark.official(judged(benchmark, benchmark.recorded(tmp_path / "Foundation_meta.json")))
    tasks = {s.group[1]: (s.value, s.scored, s.expected) for s in scores if s.group[0] == "task"}
    assert tasks == {
        "Music_Instruments_Classfication": (2 / 3, 3, 4),
        "Speaker_Gender_Recognition": (2 / 3, 3, 4),
        "Sound_AQA": (0.5, 2, 2),
    }
    assert scores[-1].name == "macro_over_tasks" and scores[-1].value == pytest.approx(
        (2 / 3 + 2 / 3 + 0.5) / 3
    )


def test_foundation_asks_with_four_letters_and_finds_the_audio(tmp_path):
    two = _FOUNDATION[0]["records"][6]
    grounding = two | {"task_name": "Audio_Grounding", "uniq_id": "g", "path": "a/b.wav"}
    write_json(tmp_path / "Foundation_meta.json", [two, grounding])
    first, second = AirBenchFoundation(tmp_path, NoTools()).items()
    assert first.asked.text.splitlines()[1:] == ["Which?", "A. male", "B. female", "C. None", "D. None"]
    assert first.asked.clip == tmp_path / "Speaker_Gender_Recognition_common_voice_13_en" / "f7.wav"
    assert second.asked.clip == tmp_path / "Audio_Grounding_common_voice_13_en" / "a" / "b.flac"


def test_foundation_reads_choices_where_the_letter_rule_fails(tmp_path):
    path = write_json(tmp_path / "Foundation_meta.json", _FOUNDATION[0]["records"][:1])
    benchmark = AirBenchFoundation(path, NoTools())
    (item,) = benchmark.items()
    verdicts = benchmark.verdicts(item, Reply("<think>no cello</think>The answer is A"))
    assert verdicts["bare"].value is None and verdicts["parsed"].value == 1.0
    found = judged(benchmark, {item.id: Reply("I hear the violin here")})
    benchmark.write(tmp_path / "out.jsonl", found, "parsed")
    benchmark.write(tmp_path / "bare.jsonl", found)
    assert [r.text for r in benchmark.recorded(tmp_path / "out.jsonl").values()] == ["A"]
    assert [r.text for r in benchmark.recorded(tmp_path / "bare.jsonl").values()] == [
        "I hear the violin here"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choice_b": None}, "choices must be two or more"),
        ({"choice_a": None}, "choices must be two or more"),
        ({"path": 3}, "'path' must be a string, but is 3"),
        ({"answer_gt": None}, "'answer_gt' must be a string"),
    ],
)
def test_foundation_names_what_is_wrong_with_a_record(change, said, tmp_path):
    write_json(tmp_path / "Foundation_meta.json", [_FOUNDATION[0]["records"][6] | change])
    with pytest.raises(BenchmarkError, match=said) as caught:
        list(AirBenchFoundation(tmp_path, NoTools()).items())
    assert "Foundation_meta.json, record 1" in str(caught.value) and "mend the record" in str(caught.value)


def _chat(tmp_path) -> tuple[AirBenchChat, RuleJudge]:
    """The eight rows of the golden files as questions, and a judge that gives their lines."""
    lines = {
        order: {f"{row['task_name']}_own_{row['uniq_id']}": row["gpt-score"] for row in case["rows"]}
        for order, case in zip(("reference_first", "model_first"), _CHAT[:2], strict=True)
    }
    records = [
        {
            "meta_info": "A dog barks. $question", "question": f"What {row['uniq_id']}?", "answer_gt": "A dog.",
            "path": "d.wav", "task_name": row["task_name"], "dataset_name": "own", "uniq_id": row["uniq_id"],
        }
        for row in _CHAT[0]["rows"]
    ]  # fmt: skip
    write_json(tmp_path / "Chat" / "Chat_meta.json", records)
    judge = RuleJudge(lambda item, stage: lines[stage][item])
    return AirBenchChat(tmp_path, judge), judge


def test_chat_is_judged_in_both_orders(tmp_path):
    benchmark, judge = _chat(tmp_path)
    replies = {item.id: Reply("<think>hm</think>It is a cat.") for item in benchmark.items()}
    scores = benchmark.official(judged(benchmark, replies))
    for order, case in zip(("reference_first", "model_first"), _CHAT[:2], strict=True):
        for name, row in case["result"]["per_category"].items():
            found = {s.name: s for s in scores if s.reading == order and s.group == ("category", name)}
            for metric in ("win_rate", "gpt4_avg_score", "llm_avg_score"):
                assert (found[metric].value, found[metric].scored) == (row[metric], row["sum"])
    final = {s.group[1]: s.value for s in scores if s.reading == "both"}
    expected = golden("air_bench")["chat"]["final"]
    assert final == expected["per_category"] | {k: expected[k] for k in ("mixed_audio", "average")}

    texts = {stage: messages[0]["content"] for _, stage, messages in judge.asked[:2]}
    assert texts["reference_first"].index("A dog.\n") < texts["reference_first"].index("It is a cat.")
    assert texts["model_first"].index("It is a cat.") < texts["model_first"].index("A dog.\n")
    # What fills one place is not searched for others, and reasoning is not judged.
    assert all("A dog barks. $question" in text and "hm" not in text for text in texts.values())


def test_chat_keeps_lines_that_are_no_points(tmp_path):
    benchmark, _ = _chat(tmp_path)
    benchmark._tools = RuleJudge(lambda item, stage: "8, 7")
    found = judged(benchmark, {item.id: Reply("It is a cat.") for item in benchmark.items()})
    verdict = found[0].verdicts["model_first"]
    assert (verdict.value, verdict.answer, verdict.reason) == (None, "8, 7", "no_points")
    counts = {s.name: s.value for s in benchmark.official(found) if s.reading == "model_first"}
    assert counts["fail_num"] == counts["success_num"] == 8 and counts["percentage"] == 0.5


def test_chat_needs_its_judge(tmp_path):
    _chat(tmp_path)
    benchmark = AirBenchChat(tmp_path, NoTools())
    with pytest.raises(MissingEvaluatorError):
        benchmark.verdicts(next(iter(benchmark.items())), Reply("A cat."))
    benchmark = AirBenchChat(tmp_path, RuleJudge(lambda item, stage: None))
    with pytest.raises(RecordError, match="judge_silent"):
        benchmark.verdicts(next(iter(benchmark.items())), Reply("A cat."))


def test_chat_predictions_go_out_and_come_back(tmp_path):
    benchmark, _ = _chat(tmp_path)
    ids = [item.id for item in benchmark.items()]
    found = judged(benchmark, {ids[0]: Reply("<think>hm</think>A cat."), ids[1]: Reply(" ")})
    benchmark.write(tmp_path / "Chat_result_modelx.jsonl", found)
    back = benchmark.recorded(tmp_path / "Chat_result_modelx.jsonl")
    assert {id: reply.text for id, reply in back.items()} == {ids[0]: "A cat.", ids[1]: ""}


def test_a_prompt_of_ones_own_is_used_and_named(tmp_path):
    _chat(tmp_path)
    prompt = tmp_path / "Chat" / "judge_prompt.txt"
    prompt.write_text("For $$1: $audio $question $first $second", encoding="utf-8")
    judge = RuleJudge(lambda item, stage: "5 5")
    benchmark = AirBenchChat(tmp_path, judge)
    found = judged(benchmark, {item.id: Reply("A cat.") for item in benchmark.items()})
    assert judge.asked[0][2][0]["content"] == "For $1: A dog barks. $question What 0? A dog. A cat."
    assert "judge_prompt.txt, sha256 " in benchmark.official(found)[-1].note
    prompt.write_text("$audio $question $first", encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"must have the places \$audio, \$first, \$question, \$second"):
        AirBenchChat(tmp_path, judge)


@pytest.mark.parametrize(("name", "scale"), [("audiocaps_qa", "graded"), ("dream_tts_mcq", "binary")])
def test_open_questions_are_scored_as_audiobench_scores_them(name, scale, tmp_path):
    case = golden("audiobench")[scale]
    rows = [
        {"instruction": f"q{n}", "reference": "ref", "model_prediction": f"p{n}", "audio": f"{n}.wav"}
        for n, _ in enumerate(case["lines"])
    ]
    path = write_json(tmp_path / f"{name}.jsonl", rows)
    judge = RuleJudge(lambda item, stage: case["lines"][int(item.rpartition("_")[2]) - 1])
    benchmark = OpenQa(tmp_path, judge)
    found = judged(benchmark, benchmark.recorded(path))
    scores = {score.name: score for score in benchmark.official(found)}
    result = case["result"]["result"]
    assert scores["judge_score"].value == scores["mean_of_sets"].value == result["judge_score"]
    assert scores["success_rate"].value == result["success_rate"]
    assert all(part in judge.asked[1][2][0]["content"] for part in ("q1", "ref", "p1"))
    # What is out of range, or no rating, is judged by no honest score.
    values = [each.verdicts["judge"].value for each in found]
    expected = {
        "graded": [100, 60, 0, 80, None, 80, 100, None, None, 90, *[None] * 4],
        "binary": [100, 0, 100, None, None],
    }
    assert values == expected[scale]


def test_open_questions_of_two_sets_and_a_nan(tmp_path):
    row = {"instruction": "q", "reference": "r", "model_prediction": "p"}
    write_json(tmp_path / "wavcaps_qa.json", [row | {"id": "x"}])
    write_json(tmp_path / "own_mcq.jsonl", [row, row])
    benchmark = OpenQa(tmp_path, RuleJudge(lambda item, stage: "nan" if item == "own_mcq_2" else "Rating: 1"))
    items = list(benchmark.items())
    assert [item.id for item in items] == ["own_mcq_1", "own_mcq_2", "wavcaps_qa_x"]
    assert items[2].asked.clip == tmp_path / "wavcaps_qa" / "x.wav"
    found = judged(benchmark, benchmark.recorded(tmp_path))
    scores = {(s.name, s.group[1]): s for s in benchmark.official(found)}
    assert scores["judge_score", "wavcaps_qa"].value == 20
    assert (
        scores["judge_score", "own_mcq"].value is None
        and "prints nan" in scores["judge_score", "own_mcq"].note
    )
    assert scores["mean_of_sets", ""].value is None
    benchmark.write(tmp_path / "out", found)
    assert benchmark.recorded(tmp_path / "out") == benchmark.recorded(tmp_path)
    write_json(tmp_path / "own_mcq.json", [row])
    with pytest.raises(BenchmarkError, match="holds a set twice"):
        OpenQa(tmp_path, NoTools())
    with pytest.raises(BenchmarkError, match="holds no set"):
        OpenQa(tmp_path / "nothing", NoTools())
    json.dumps(items[0].record)
