"""A run that is killed at any moment goes on with the same command, and pays for nothing twice."""

import collections
import os
import signal

import pytest
from misbehaving_endpoint import GOOD, endpoint
from runner_helpers import DIE_ONCE, job, lines_of, replies, toy_files

ITEMS = 24


def answer(messages):
    return messages[-1]["content"].replace("question", "answer")


def arguments(files, output, server, concurrency):
    tested = {"key_variable": "''", "concurrency": concurrency, "first_wait": 0.01, "attempts": 30}
    settings = [f"--gin.tested/Endpoint.{name}={value}" for name, value in tested.items()]
    return [f"toy={files}", f"--output={output}", f"--url={server.url}", "--model=m", *settings]


def run_to_end(given, environment=()):
    with job(given, environment) as process:
        said, _ = process.communicate(timeout=300)
    return process.returncode, said


def scores(output):
    return [line["verdicts"]["bare"]["value"] for line in lines_of(output / "toy/predictions.jsonl")]


@pytest.mark.parametrize("asked, concurrency", [(1, 1), (9, 4), (23, 2)])
def test_a_kill_while_asking_costs_what_was_under_way(tmp_path, asked, concurrency):
    files, output, processes = toy_files(tmp_path / "toy", ITEMS), tmp_path / "out", []

    def manner(number, messages):
        if number == asked:
            os.kill(processes[0].pid, signal.SIGKILL)
        return GOOD

    with endpoint(answer, manner) as server:
        with job(arguments(files, output, server, 4)) as process:
            processes.append(process)
            assert process.wait(300) == -signal.SIGKILL
        kept = len(lines_of(output / "toy/replies.jsonl")) if (output / "toy/replies.jsonl").exists() else 0
        assert not (output / "toy/predictions.jsonl").exists()
        code, said = run_to_end(arguments(files, output, server, concurrency))
    assert code == 0, said
    assert scores(output) == [1.0] * ITEMS
    assert kept <= asked and len(server.asked) <= asked + 1 + 4 + ITEMS - kept
    assert max(server.paid.values()) <= 2 and sum(server.paid.values()) <= ITEMS + 5


def test_a_kill_between_asking_and_scoring_asks_nothing_again(tmp_path):
    files, output, flag = toy_files(tmp_path / "toy", ITEMS), tmp_path / "out", tmp_path / "die"
    flag.write_text("")
    with endpoint(answer) as server:
        code, said = run_to_end(arguments(files, output, server, 4), {DIE_ONCE: str(flag)})
        assert code == -signal.SIGKILL and not flag.exists(), said
        code, said = run_to_end(arguments(files, output, server, 7))
        assert code == 0, said
    assert len(server.asked) == ITEMS and scores(output) == [1.0] * ITEMS


def test_a_kill_while_judging_costs_what_was_under_way(tmp_path):
    files, told = toy_files(tmp_path / "toy", ITEMS, judge=1), replies(tmp_path / "told.jsonl", ITEMS)
    output, processes = tmp_path / "out", []

    def manner(number, messages):
        if number == 9:
            os.kill(processes[0].pid, signal.SIGKILL)
        return GOOD

    with endpoint(lambda messages: "yes", manner) as server:
        settings = {"url": repr(server.url), "model": "'m'", "key_variable": "''", "concurrency": 4}
        given = [f"toy={files}", f"--recorded={told}", f"--output={output}"]
        given += ["--gin.BenchmarkConfig.judge=@judge/Endpoint()"]
        given += [f"--gin.judge/Endpoint.{name}={value}" for name, value in settings.items()]
        with job(given) as process:
            processes.append(process)
            assert process.wait(300) == -signal.SIGKILL
        code, said = run_to_end(given)
    assert code == 0, said
    verdicts = [line["verdicts"]["judged"]["value"] for line in lines_of(output / "toy/predictions.jsonl")]
    assert verdicts == [1.0] * ITEMS
    assert max(server.paid.values()) <= 2 and sum(server.paid.values()) <= ITEMS + 5


def test_shards_ask_and_one_command_scores(tmp_path):
    files, output = toy_files(tmp_path / "toy", ITEMS), tmp_path / "out"
    with endpoint(answer) as server:
        for shard in range(2):
            part = [f"--gin.BenchmarkConfig.shard={shard}", "--gin.BenchmarkConfig.num_shards=2"]
            code, said = run_to_end([*arguments(files, output, server, 4), *part])
            assert code == 0 and f"shard {shard} of 2 has all its replies" in said, said
        assert not (output / "toy/predictions.jsonl").exists()
        code, said = run_to_end(arguments(files, output, server, 4))
    assert code == 0, said
    assert len(server.asked) == ITEMS and scores(output) == [1.0] * ITEMS


def test_an_endpoint_that_fails_a_third_of_all_requests_changes_nothing_but_their_number(tmp_path):
    files, output = toy_files(tmp_path / "toy", ITEMS), tmp_path / "out"
    faults = ["server_error", "cut", "broken_json", "too_many", "empty_answer"]
    manners = collections.defaultdict(lambda: GOOD, {n: faults[n // 3 % 5] for n in range(0, 300, 3)})
    with endpoint(answer, lambda number, messages: manners[number]) as server:
        code, said = run_to_end(arguments(files, output, server, 4))
    assert code == 0, said
    assert scores(output) == [1.0] * ITEMS and len(server.asked) > ITEMS
    assert set(server.paid.values()) == {1}
