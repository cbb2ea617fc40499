"""Comparisons, pages, contamination and the leaderboard."""

import dataclasses
import json

import html5lib
import pytest
from html_balance import Balance
from runner_helpers import Toy, recorded, replies, run_toy, toy_files, write_lines

from bagpiper_jax.data.lock import Lock, LockedTask, write_lock
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Verdict
from bagpiper_jax.evaluation.results import contamination, honest, leaderboard, record, report
from bagpiper_jax.evaluation.results.comparison import compare, markdown
from bagpiper_jax.evaluation.results.leaderboard import LeaderboardConfig
from bagpiper_jax.evaluation.systems.config import CheckpointSystem, RecordedSystem
from bagpiper_jax.jobs import compare as compare_job
from bagpiper_jax.jobs import leaderboard as leaderboard_job


def outputs(tmp_path, count=40, first=(), second=()):
    """Two systems on one benchmark, with these items wrong."""
    files = toy_files(tmp_path / "toy", count)
    for name, wrong in (("a", first), ("b", second)):
        told = replies(tmp_path / f"{name}.jsonl", count, wrong=wrong)
        run_toy(files, tmp_path / name, RecordedSystem(str(told), name=f"system {name}"))
    return tmp_path / "a", tmp_path / "b"


def parsed(path):
    """The page, if it is valid HTML that closes what it opens."""
    text = path.read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    return text


def judged(values, clusters=None, groups=None):
    return [
        Judged(
            Item(f"i{n}", Asked("q"), {}, groups[n] if groups else {}, clusters[n] if clusters else ""),
            Reply("r"),
            {} if value is None else {"bare": Verdict(value)},
        )
        for n, value in enumerate(values)
    ]


def test_a_failure_counts_as_the_benchmark_says():
    class Left(Toy):
        failed = None

    class Worst(Toy):
        failed, unit = 1.0, "edits per word"

    lines = judged([1.0, 0.0, None, 1.0])
    (wrong,) = honest.scores(Toy(".", None), lines)
    assert (wrong.value, wrong.scored, wrong.expected, wrong.unit, wrong.name) == (
        50.0,
        3,
        4,
        "%",
        "accuracy",
    )
    (left,) = honest.scores(Left(".", None), lines)
    assert (left.value, left.scored, left.unit, left.name) == (pytest.approx(2 / 3), 3, "", "mean")
    (worst,) = honest.scores(Worst(".", None), lines)
    assert (worst.value, worst.unit) == (0.75, "edits per word")


def test_nothing_judged_is_no_number():
    class Left(Toy):
        failed = None

    lines = [dataclasses.replace(judged([0.0])[0], verdicts={"bare": Verdict(None, reason="no letter")})]
    (score,) = honest.scores(Left(".", None), lines)
    assert (score.value, score.scored, score.expected, score.interval) == (None, 0, 1, None)
    assert honest.scores(Left(".", None), judged([None])) == []


def test_groups_are_rows_by_kind():
    groups = [{"task": "music", "level": "hard"}, {"task": "speech"}, {"task": "music", "level": "easy"}]
    found = honest.scores(Toy(".", None), judged([1.0, 0.0, 0.0], groups=groups))
    assert [(score.group, score.value, score.expected) for score in found] == [
        (("", ""), pytest.approx(100 / 3), 3),
        (("task", "music"), 50.0, 2),
        (("task", "speech"), 0.0, 1),
        (("level", "hard"), 100.0, 1),
        (("level", "easy"), 0.0, 1),
    ]


def test_questions_about_one_clip_widen_the_interval():
    values = [float(n % 8 < 4) for n in range(400)]
    alone = honest.scores(Toy(".", None), judged(values))[0].interval
    together = honest.scores(Toy(".", None), judged(values, [f"c{n // 4}" for n in range(400)]))[0].interval
    assert together[1] - together[0] > 1.7 * (alone[1] - alone[0])


def test_two_systems_are_compared_on_the_same_items(tmp_path, capsys):
    a, b = outputs(tmp_path, first=range(0, 40, 2), second=range(0, 8, 2))
    bare, _ = compare(a, b)
    assert (bare.means, bare.items, bare.difference.mean) == ((50.0, 90.0), 40, pytest.approx(40.0))
    # 16 of 20 clusters differ, all in one direction: 2 of 2^16 flips are as far.
    assert bare.difference.p < 1e-3 and bare.difference.interval[0] > 0
    back = compare(b, a)[0].difference
    assert (back.mean, back.p) == (pytest.approx(-40.0), bare.difference.p)
    compare_job.main([str(a), str(b)])
    said = capsys.readouterr().out
    assert "| toy | bare | 50.00 % | 90.00 % | +40 |" in said and "sign-flip" in said
    assert "system a" in said and said.strip() == markdown(compare(a, b)).strip()


def test_few_clusters_are_compared_exactly(tmp_path):
    a, b = outputs(tmp_path, 8, first=(0, 2, 4), second=())
    difference = compare(a, b)[0].difference
    assert difference.exact and difference.p == 0.25, "2 of 8 flips of three clusters"


def test_what_cannot_be_compared_is_explained(tmp_path):
    a, b = outputs(tmp_path, 4)
    with pytest.raises(BenchmarkError, match="holds no results"):
        compare(a, tmp_path)
    path = b / "toy/results.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"version": "2"}))
    with pytest.raises(BenchmarkError, match="toy is 1 in .* and 2 in"):
        compare(a, b)
    for content in ("[]", "{", json.dumps(fields | {"honest": 3}), json.dumps(fields | {"format": 9})):
        path.write_text(content)
        with pytest.raises(BenchmarkError, match="no result of this version"):
            record.read(path)


def test_a_result_is_read_as_it_was_written(tmp_path):
    files, told = (
        toy_files(tmp_path / "toy", 6),
        replies(tmp_path / "told.jsonl", 6, wrong=(1,), missing=(2,)),
    )
    result = run_toy(files, tmp_path / "out", recorded(told))
    assert record.read_all(tmp_path / "out") == [result]
    assert result.system.identity["kind"] == "recorded" and result.command == "again"


def test_the_page_is_valid_and_says_everything(tmp_path):
    files = toy_files(tmp_path / "toy", 6)
    told = replies(tmp_path / "told.jsonl", 6, wrong=(1,), missing=(2,))
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    lines[0]["reply"] = "<script>alert(1)</script> | \x00 &"
    write_lines(told, lines)
    run_toy(files, tmp_path / "out", recorded(told), limit=5)
    page = parsed(tmp_path / "out/report.html")
    for said in (
        "first 5 items",
        "1 missing_reply",
        "Official",
        "Honest",
        "95 % interval",
        "kind: k1",
        "4 / 5",
        "again",
    ):
        assert said in page, said
    assert "<script>" not in page
    assert report.write(tmp_path / "out") == tmp_path / "out/report.html"


def lock(path, *tasks):
    locked = tuple(LockedTask(task, 1.0, f"caches/{task}", "0" * 64, 1, "x") for task in tasks)
    write_lock(path, Lock("mix", "examples", "t", 1, "c", 1, 8, 1, {"train": locked}))
    return path


def test_what_a_run_was_trained_on_is_told_beside_the_score(tmp_path):
    first = lock(tmp_path / "first.lock.json", "audio_set_captions")
    second = lock(tmp_path / "second.lock.json", "toy_train_v1", "speech")
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for run, trained, began in ((base, first, ""), (tuned, second, f"TrainConfig.init_from = '{base}'\n")):
        (run / "checkpoints/3").mkdir(parents=True)
        (run / "operative.gin").write_text(
            f"{began}TrainConfig.train_lock = \\\n    '{trained}'\nTrainConfig.steps = 3\n"
        )
    system = CheckpointSystem(str(tuned / "checkpoints/3"))
    trained = contamination.sources(system, ())
    assert {"toy_train_v1", "speech", "audio_set_captions"} <= set(trained)
    assert contamination.found(Toy.overlaps, trained) == ["toy_train_v1", "audio_set_captions"]
    assert contamination.sources(RecordedSystem("x"), ()) is None
    assert contamination.found(Toy.overlaps, None) is None
    files, told = toy_files(tmp_path / "toy", 2), replies(tmp_path / "told.jsonl", 2)
    run_toy(files, tmp_path / "out", recorded(told), locks=(str(second),))
    assert (
        "Trained on what overlaps with this benchmark: toy_train_v1."
        in (tmp_path / "out/results.md").read_text()
    )
    run_toy(files, tmp_path / "out", recorded(told), locks=(str(tmp_path / "gone.lock.json"),))
    assert "is not known; the benchmark overlaps with toy_train_v1, AudioSet." in parsed(
        tmp_path / "out/report.html"
    )


def test_the_leaderboard_lists_ours_with_commands_and_others_with_sources(tmp_path, capsys):
    a, b = outputs(tmp_path, 8, second=(0,))
    page = tmp_path / "board.html"
    leaderboard_job.main([str(a), str(b), f"--gin.LeaderboardConfig.page={page}"])
    text = parsed(page)
    assert capsys.readouterr().out.strip() == str(page)
    assert text.count("<pre>again</pre>") == 1 and "system a" in text and "system b" in text
    assert "published" not in text, "nobody published a number of the toy benchmark"
    leaderboard.write(LeaderboardConfig((), str(page)))
    everyone = parsed(page)
    assert "74.50 %" in everyone and "arXiv 2602.05220" in everyone


def test_every_published_number_has_its_source():
    rows = leaderboard.published()
    assert len(rows) > 30 and all(row.source and row.metric and row.system for row in rows)
    keys = [(row.benchmark, row.system, row.metric, row.source) for row in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "task, sources, named",
    [
        ("audio_set_captions", ("AudioSet",), True),
        ("AudioSet-balanced", ("audio_set",), True),
        ("performance_fmart", ("fma",), False),
        ("fma_large", ("fma",), True),
        ("speech", ("",), False),
        ("speech", (), False),
    ],
)
def test_sources_are_found_in_the_names_of_tasks(task, sources, named):
    assert bool(contamination.found(sources, [task])) is named
