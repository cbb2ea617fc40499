"""The runner: what is asked, what is kept, what is counted."""

import asyncio
import dataclasses
import json
import time
from pathlib import Path

import pytest
from runner_helpers import FakeSystem, Toy, lines_of, recorded, replies, run_toy, toy_files, write_lines

from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Reply
from bagpiper_jax.evaluation.running import inference
from bagpiper_jax.evaluation.running.cache import ReplyCache
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.evaluation.systems.config import RecordedSystem
from bagpiper_jax.journal import JournalError


def ask(files, system, output, part="", items=None):
    toy = Toy(files, None)
    items = list(toy.items()) if items is None else items
    return asyncio.run(inference.replies(system, toy, items, output, part))


def test_every_item_has_its_line_and_every_failure_its_reason(tmp_path):
    files = toy_files(tmp_path / "toy", 8)
    told = replies(tmp_path / "told.jsonl", 8, wrong=(2,), missing=(5,))
    lines = lines_of(told)
    lines[0]["reply"] = "unjudgeable"
    lines[1]["reply"] = 7
    write_lines(told, [*lines, {"id": "i3", "reply": "another"}, {"no": "id"}])
    result = run_toy(files, tmp_path / "out", recorded(told))
    assert result.faults == {"prose": 1, "malformed_reply": 1, "duplicate_reply": 1, "missing_reply": 1}
    assert result.expected == 8
    (remark,) = result.system.remarks
    assert "1 line " in remark and "line 9" in remark
    written = {line["id"]: line for line in lines_of(tmp_path / "out/toy/predictions.jsonl")}
    assert list(written) == [f"i{n}" for n in range(8)]
    assert written["i0"]["fault"] == "prose" and written["i0"]["reply"]["text"] == "unjudgeable"
    assert written["i2"]["verdicts"]["first"] == {"value": None, "answer": "w", "reason": ""}
    assert written["i4"]["verdicts"]["bare"] == {"value": 1.0, "answer": "answer 4", "reason": ""}


def test_official_and_honest_scores_stand_side_by_side(tmp_path):
    files, told = toy_files(tmp_path / "toy", 8), tmp_path / "told.jsonl"
    replies(told, 8, wrong=(2,), missing=(5, 6))
    result = run_toy(files, tmp_path / "out", recorded(told))
    (official,) = result.official
    assert (official.value, official.scored, official.expected) == (pytest.approx(500 / 6), 6, 8)
    found = {(score.reading, score.group): score for score in result.honest}
    honest = found["bare", ("", "")]
    assert (honest.value, honest.scored, honest.expected) == (62.5, 6, 8)
    low, high = honest.interval
    assert 0 <= low < 62.5 < high <= 100
    assert found["bare", ("kind", "k0")].value == 50.0 and found["bare", ("kind", "k1")].value == 75.0
    assert found["first", ("", "")].scored == 5


def test_scores_come_again_from_the_output_itself(tmp_path):
    files, told = (
        toy_files(tmp_path / "toy", 8),
        replies(tmp_path / "told.jsonl", 8, wrong=(1,), missing=(2,)),
    )
    first = run_toy(files, tmp_path / "out", recorded(told))
    again = run_toy(files, tmp_path / "again", recorded(tmp_path / "out"))
    assert (again.official, again.honest, again.faults) == (first.official, first.honest, first.faults)


def test_limit_and_shards_take_their_part(tmp_path):
    files, told = toy_files(tmp_path / "toy", 9), replies(tmp_path / "told.jsonl", 9)
    result = run_toy(files, tmp_path / "out", recorded(told), limit=4)
    assert (result.expected, result.limit) == (4, 4)
    assert "first 4 items alone" in (tmp_path / "out/results.md").read_text()
    assert run_toy(files, tmp_path / "part", recorded(told), shard=1, num_shards=3) is None
    with pytest.raises(ValueError, match="shard"):
        BenchmarkConfig({"toy": "x"}, RecordedSystem("x"), "y", shard=3, num_shards=3)


def test_nothing_is_asked_twice_and_faults_are_asked_again(tmp_path):
    files = toy_files(tmp_path / "toy", 6)
    answers = {f"i{n}": Reply(f"answer {n}") for n in range(4)} | {"i4": Reply("")}
    first = FakeSystem(dict(answers))
    ask(files, first, tmp_path / "out")
    assert sorted(first.asked) == [f"i{n}" for n in range(6)]
    second = FakeSystem({**answers, "i5": Reply("answer 5")})
    found = ask(files, second, tmp_path / "out")
    assert second.asked == ["i4", "i5"], "an empty reply and a fault are not kept"
    assert [reply.text for reply in found] == [*(f"answer {n}" for n in range(4)), "", "answer 5"]


def test_the_key_is_all_that_a_reply_depends_on(tmp_path):
    asked, identity = Asked("q", None, "text", 8), {"model": "a", "loop": {"temperature": 0.0}}
    key = ReplyCache.key(asked, "clip", identity, "toy", "1", "i0")
    assert key == ReplyCache.key(
        dataclasses.replace(asked, clip=Path("x.wav")), "clip", dict(identity), "toy", "1", "i0"
    )
    others = [
        ReplyCache.key(dataclasses.replace(asked, text="q "), "clip", identity, "toy", "1", "i0"),
        ReplyCache.key(dataclasses.replace(asked, max_tokens=9), "clip", identity, "toy", "1", "i0"),
        ReplyCache.key(dataclasses.replace(asked, begun="q"), "clip", identity, "toy", "1", "i0"),
        ReplyCache.key(dataclasses.replace(asked, wants="audio"), "clip", identity, "toy", "1", "i0"),
        ReplyCache.key(asked, "other", identity, "toy", "1", "i0"),
        ReplyCache.key(asked, "clip", {**identity, "loop": {"temperature": 0.1}}, "toy", "1", "i0"),
        ReplyCache.key(asked, "clip", identity, "toy", "2", "i0"),
        ReplyCache.key(asked, "clip", identity, "toy", "1", "i1"),
    ]
    assert len({key, *others}) == 9


def test_a_clip_that_changed_is_asked_about_again(tmp_path):
    files = toy_files(tmp_path / "toy", 2, clip="a.wav")
    (files / "a.wav").write_bytes(b"one")
    answers = {f"i{n}": Reply(f"answer {n}") for n in range(2)}
    ask(files, FakeSystem(answers), tmp_path / "out")
    same = FakeSystem(answers)
    ask(files, same, tmp_path / "out")
    (files / "a.wav").write_bytes(b"other")
    changed = FakeSystem(answers)
    ask(files, changed, tmp_path / "out")
    assert (same.asked, sorted(changed.asked)) == ([], ["i0", "i1"])


def test_a_sound_that_has_gone_is_made_again(tmp_path):
    files = toy_files(tmp_path / "toy", 2, wants="audio")
    answers = {f"i{n}": Reply(audio=Path("x")) for n in range(2)}
    found = ask(files, FakeSystem(answers), tmp_path / "out")
    assert [reply.audio.name for reply in found] == ["i0.wav", "i1.wav"]
    found[1].audio.unlink()
    again = FakeSystem(answers)
    ask(files, again, tmp_path / "out")
    assert again.asked == ["i1"]


def test_shards_share_their_replies_whatever_their_number(tmp_path):
    files = toy_files(tmp_path / "toy", 10)
    items = list(Toy(files, None).items())
    answers = {f"i{n}": Reply(f"answer {n}") for n in range(10)}
    ask(files, FakeSystem(answers), tmp_path / "out", "-0-of-2", items[0::2])
    third = FakeSystem(answers, width=1)
    ask(files, third, tmp_path / "out", "-1-of-3", items[1::3])
    assert third.asked == ["i1", "i7"], "i4 was made by another shard"
    whole = FakeSystem(answers)
    ask(files, whole, tmp_path / "out")
    assert sorted(whole.asked) == ["i3", "i5", "i9"]


def test_a_second_process_of_one_shard_is_refused(tmp_path):
    with ReplyCache(tmp_path, "replies"), pytest.raises(JournalError, match="another process"):
        ReplyCache(tmp_path, "replies")


def test_who_asks_what_is_being_made_waits_for_it(tmp_path):
    made = []

    async def make():
        made.append(1)
        await asyncio.sleep(0)
        return Reply("caption")

    async def both():
        with ReplyCache(tmp_path, "captions") as cache:
            return await asyncio.gather(cache.reply("00" * 16, make), cache.reply("00" * 16, make))

    assert asyncio.run(both()) == [Reply("caption")] * 2 and made == [1]


def test_a_missing_evaluator_leaves_its_benchmark_out_and_fails_nothing(tmp_path):
    def opens(name, path):
        raise MissingEvaluatorError(f"{name} is not here: pip install ears")

    files, told = toy_files(tmp_path / "toy", 3, evaluator="ears"), replies(tmp_path / "told.jsonl", 3)
    result = run_toy(files, tmp_path / "out", recorded(told), opens)
    assert result.left_out == "ears is not here: pip install ears"
    assert (result.official, result.honest) == ([], [])
    assert "Left out: ears is not here" in (tmp_path / "out/results.md").read_text()
    assert len(lines_of(tmp_path / "out/toy/predictions.jsonl")) == 3


def test_evaluators_are_opened_once_by_the_path_of_the_settings_and_named_in_the_results(tmp_path):
    opened = []

    class Ears:
        name, version = "ears-small", "sha256:00ff"

        def score(self, reply):
            return 0.25

    def opens(name, path):
        opened.append((name, path))
        return Ears()

    files, told = toy_files(tmp_path / "toy", 5, evaluator="ears"), replies(tmp_path / "told.jsonl", 5)
    result = run_toy(files, tmp_path / "out", recorded(told), opens, evaluators={"ears": "models/ears"})
    assert opened == [("ears", "models/ears")]
    assert result.evaluators == {"ears": {"name": "ears-small", "version": "sha256:00ff"}}
    assert json.loads((tmp_path / "out/toy/results.json").read_text())["evaluators"] == result.evaluators


def test_a_benchmark_without_its_judge_says_how_to_name_one(tmp_path):
    files, told = toy_files(tmp_path / "toy", 2, judge=1), replies(tmp_path / "told.jsonl", 2)
    result = run_toy(files, tmp_path / "out", recorded(told))
    assert "BenchmarkConfig.judge = @judge/Endpoint()" in result.left_out
    with pytest.raises(Exception, match="Endpoint.model is empty"):
        run_toy(files, tmp_path / "out", recorded(told), judge=Endpoint())


def test_what_is_wrong_with_files_is_said_before_anything_is_asked(tmp_path):
    files = toy_files(tmp_path / "toy", 2)
    write_lines(files / "toy.jsonl", [*lines_of(files / "toy.jsonl"), lines_of(files / "toy.jsonl")[0]])
    with pytest.raises(BenchmarkError, match="'i0' stands twice"):
        run_toy(files, tmp_path / "out", RecordedSystem("nowhere"))
    with pytest.raises(BenchmarkError, match="nowhere does not exist"):
        run_toy(toy_files(tmp_path / "good", 2), tmp_path / "out", RecordedSystem("nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="cannot be written"):
        run_toy(files, tmp_path / "file/below", RecordedSystem("nowhere"))


def test_ten_thousand_recorded_replies_are_scored_in_seconds(tmp_path):
    files, told = (
        toy_files(tmp_path / "toy", 10_000),
        replies(tmp_path / "told.jsonl", 10_000, wrong=range(0, 10_000, 3)),
    )
    start = time.process_time()  # other work on the machine does not count
    result = run_toy(files, tmp_path / "out", recorded(told))
    took = time.process_time() - start
    assert result.honest[0].value == pytest.approx(66.66) and took < 5, took
