"""Asking an endpoint that misbehaves in every way: nothing hangs, nothing is lost, nothing is paid twice."""

import asyncio
import json
import sys
import time

import pytest
from endpoint_helpers import ask, lines
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving_endpoint import GOOD, endpoint

from bagpiper_jax.curation.dialogues.judging import GENERATION, read_marks
from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Answer
from bagpiper_jax.curation.endpoint.failures import EndpointError, Failure
from bagpiper_jax.curation.endpoint.replies import read_object
from bagpiper_jax.curation.endpoint.responses import _retry_after, checked, tokens_of
from bagpiper_jax.curation.tagging import checked_tags
from bagpiper_jax.journal import JournalError
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.workers import in_order

NAMES = ("choices", "message", "content", "usage", "total_tokens", "finish_reason")

ONCE_WRONG = {
    "hang": "timeout", "trickle": "timeout", "too_many": "status_429", "too_many_untold": "status_429",
    "server_error": "status_500", "broken_json": "broken_json", "not_text": "broken_json", "no_choices": "no_choices",
    "empty_answer": "empty_answer", "surrogate": "broken_text", "cut": "cut", "flood": "too_long",
}  # fmt: skip


def patience(fault: str) -> float:
    """Seconds of an attempt: few only where the fault is to take too long, for the machine may be busy."""
    return 1.0 if ONCE_WRONG[fault] == "timeout" else 20.0


@pytest.mark.parametrize("fault", ONCE_WRONG)
def test_a_fault_is_tried_again_and_journaled(tmp_path, fault):
    with endpoint(manner=lambda number, _: fault if number == 0 else GOOD) as server:
        assert ask(tmp_path, server, ["a"], seconds=patience(fault)) == ["Fine."]
        first, second = lines(tmp_path)
        assert first["error"] == ONCE_WRONG[fault] and "answer" in second and second["tokens"] == 42
        assert first["key"] == second["key"] == server.headers[1]["Idempotency-Key"]
        assert ask(tmp_path, server, ["a"]) == ["Fine."] and len(server.asked) == 2, "the answer was kept"


@pytest.mark.parametrize(
    "fault", ["hang", "trickle", "server_error", "broken_json", "cut", "too_many_untold"]
)
def test_a_lasting_fault_ends_in_a_counted_rejection(tmp_path, fault):
    with endpoint(manner=lambda *_: fault) as server:
        started = time.monotonic()
        assert (
            ask(tmp_path, server, ["a", "b"], seconds=patience(fault))
            == [f"endpoint_{ONCE_WRONG[fault]}"] * 2
        )
        assert len(server.asked) == 6 == len(lines(tmp_path)) and time.monotonic() - started < 15


def test_nothing_listens(tmp_path):
    with endpoint() as server:
        pass
    assert ask(tmp_path, server, ["a"]) == ["endpoint_unreachable"]


def test_retry_after_holds_everyone_back_and_costs_no_attempt(tmp_path):
    times = []

    def manner(number, _):
        times.append(time.monotonic())
        return "too_many" if number < 5 else GOOD

    with endpoint(manner=manner) as server:
        assert ask(tmp_path, server, ["a", "b"], attempts=1, concurrency=1) == ["Fine.", "Fine."]
    assert all(later - earlier >= 0.05 for earlier, later in zip(times[:5], times[1:6], strict=True))


def test_retry_after_is_read_and_bounded(tmp_path):
    assert _retry_after("7") == 7.0 and _retry_after(None) is _retry_after("soon") is None
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert _retry_after("Wed, 21 Oct 2115 07:28:00 GMT") > 1e9
    with endpoint(manner=lambda number, _: "too_many_for_long" if number == 0 else GOOD) as server:
        started = time.monotonic()
        assert ask(tmp_path, server, ["a"], longest_wait=0.01) == ["Fine."]
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "fault, reason", [("refused", "endpoint_status_400"), ("redirect", "endpoint_status_307")]
)
def test_what_will_not_mend_is_not_tried_again(tmp_path, fault, reason):
    with endpoint(manner=lambda *_: fault) as server:
        assert ask(tmp_path, server, ["a"]) == [reason] and len(server.asked) == 1


def test_a_wrong_key_stops_everything_and_is_shown_nowhere(tmp_path):
    with endpoint(manner=lambda *_: "bad_key") as server:
        results = ask(
            tmp_path, server, ["a"] * 20, {"MY_KEY": "sk-secret"}, key_variable="MY_KEY", concurrency=2
        )
        assert all(isinstance(r, EndpointError) and "key is not accepted" in str(r) for r in results)
        assert len(server.asked) <= 2 and server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "secret" not in "".join(map(str, results)) + (tmp_path / "answers.jsonl").read_text()


def test_an_endpoint_that_is_down_ends_the_job(tmp_path):
    with endpoint(manner=lambda *_: "server_error") as server:
        results = ask(tmp_path, server, ["a"] * 200, attempts=1)
        assert isinstance(results[-1], EndpointError) and "is down" in str(results[-1])
        assert len(server.asked) < 40


def test_concurrency_is_used_and_kept(tmp_path):
    with endpoint(answer=lambda _: time.sleep(0.02) or "Fine.") as server:
        assert ask(tmp_path, server, ["a"] * 40) == ["Fine."] * 40
        assert 4 <= server.most_under_way <= 8


def test_budgets_hold_across_runs(tmp_path):
    with endpoint() as server:
        first = ask(tmp_path, server, ["a"] * 10, request_budget=4)
        assert first.count("Fine.") == 4 == len(server.asked) and first.count("budget_spent") == 6
        assert ask(tmp_path, server, ["a"] * 10, request_budget=4) == first and len(server.asked) == 4
        more = ask(
            tmp_path, server, ["a"] * 10, request_budget=None, token_budget=42 * 6 + 101, concurrency=1
        )
        assert more.count("Fine.") == 7 and len(server.asked) == 7, "one more fits while its reservation does"
        assert sum(line["tokens"] for line in lines(tmp_path)) == 7 * 42 <= 42 * 6 + 101


def test_a_timeout_costs_what_it_may_have_cost(tmp_path):
    with endpoint(manner=lambda *_: "hang") as server:
        ask(tmp_path, server, ["four"], attempts=1, seconds=0.05)
    assert lines(tmp_path)[0]["tokens"] == 104


@pytest.mark.parametrize(
    "torn", [b'{"key": "00', b"\xff\xfe garbage\n", b"\n", b'{"key": "zz", "tokens": 1}\n', b"[1]\n"]
)
def test_a_torn_journal_keeps_what_is_whole(tmp_path, torn):
    with endpoint() as server:
        ask(tmp_path, server, ["a", "b"])
        with open(tmp_path / "answers.jsonl", "ab") as file:
            file.write(torn)
        assert ask(tmp_path, server, ["a", "b", "c"]) == ["Fine."] * 3 and len(server.asked) == 3
        assert ask(tmp_path, server, ["a", "b", "c"]) == ["Fine."] * 3 and len(server.asked) == 3


def test_two_jobs_do_not_share_a_journal(tmp_path):
    answers = Answers(tmp_path / "answers.jsonl")
    with pytest.raises(JournalError, match="in use by another process"):
        Answers(tmp_path / "answers.jsonl")
    answers.close()
    Answers(tmp_path / "answers.jsonl").close()


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with endpoint() as server, pytest.raises(EndpointError, match="Endpoint.model is empty"):
        ask(tmp_path, server, ["a"], model="")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with endpoint() as server, pytest.raises(EndpointError, match="pip install"):
        ask(tmp_path, server, ["a"])


@pytest.mark.parametrize("window", [1, 3, 100])
def test_answers_come_in_order_and_few_are_begun(window):
    begun, done = [], []

    async def work(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(0.02 if number % 3 == 0 else 0)
        return -number

    async def collect():
        async for number, result in in_order(work, range(10), window):
            assert result == -number and max(begun) < len(done) + window
            done.append(number)

    asyncio.run(collect())
    assert done == list(range(10))


def test_the_first_fault_of_the_program_stops_the_rest():
    ended = []

    async def work(number: int):
        if number == 1:
            raise KeyError("a fault of the program")
        try:
            await asyncio.sleep(0.01 if number == 0 else 60)
        finally:
            ended.append(number)

    async def collect():
        async for _ in in_order(work, range(5), 5):
            pass

    with pytest.raises(KeyError):
        asyncio.run(collect())
    assert sorted(ended) == [0, 2, 3, 4]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(100, 599), st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.text())
def test_any_response_is_an_answer_or_a_failure(status, content, retry_after):
    try:
        answer = checked(status, {"Retry-After": retry_after}, content, 7)
    except Failure as failed:
        assert failed.reason and failed.tokens >= 0 and str(failed)
    else:
        assert answer["choices"][0]["message"]["content"].strip() and tokens_of(answer, 7) >= 0


@settings(max_examples=300, deadline=None)
@given(st.text() | JSON.map(json.dumps))
def test_any_answer_is_read_or_rejected(text):
    for read in (checked_tags, lambda found: read_marks(found, GENERATION)):
        with pytest.raises(RecordError, match="(unreadable|unprintable|markup|empty)_(x|tags|judgement)"):
            read(read_object(Answer(text, True), "x"))
