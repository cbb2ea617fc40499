"""Refusals: those that all requests share end the job, those of one clip are counted, and each says what to do."""

import json

import pytest
from endpoint_helpers import ask, lines
from misbehaving_endpoint import GOOD, Response, completion, endpoint

from bagpiper_jax.curation.endpoint.failures import EndpointError, message_of

SHARED = {
    "out of credit": (Response(402, {"error": {"message": "Insufficient credits", "code": 402}}), "add credit"),
    "other name": (
        Response(400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                                            "'max_completion_tokens' instead."}}),
        "set Endpoint.max_tokens_name",
    ),
    "unknown field": (Response(422, {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}),
                      "change model, prompts or sampling settings"),
    "moved": (Response(308, b"", {"Location": "http://elsewhere/v1/chat/completions"}), "Endpoint.url"),
    "moved for now": (Response(302, b"", {"Location": "/login"}), "Endpoint.url"),
    "no such call": (Response(405, {"detail": "Method Not Allowed"}), "chat/completions is served"),
    "gone": (Response(410, b"Gone"), "chat/completions is served"),
    "no sound": (Response(415, {"message": "audio is not supported"}), "change model"),
    "not made": (Response(501, b"<html>Not Implemented</html>"), "chat/completions is served"),
    "teapot": (Response(418, b""), "see the endpoint's message"),
    "quota": (Response(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}},
                       {"Retry-After": "60"}), "add credit"),
}  # fmt: skip


@pytest.mark.parametrize("concurrency", [1, 2, 64])
@pytest.mark.parametrize("fault", SHARED)
def test_a_few_equal_refusals_end_the_job(tmp_path, fault, concurrency):
    refusal, remedy = SHARED[fault]
    with endpoint(manner=lambda *_: refusal) as server:
        results = ask(tmp_path, server, [f"{i}" for i in range(60)], concurrency=concurrency)
        assert len(server.asked) < 8 + min(concurrency, 8), "few meet what all would meet"
    fault = results[-1]
    assert isinstance(fault, EndpointError) and remedy in str(fault), fault
    assert f"status_{refusal.status}: {message_of(_text(refusal))}"[:200] in str(fault)
    assert "run the same command again" not in str(fault) and "what was answered is kept" in str(fault)


def _text(response: Response) -> str:
    return response.body.decode() if isinstance(response.body, bytes) else json.dumps(response.body)


def test_ids_of_requests_make_no_refusal_another(tmp_path):
    def manner(number, _):
        message = f"Model not ready (request id: 2026112717{number:012d}abc{number})"
        return Response(400, {"error": {"message": message}, "request_id": f"req_{number}"})

    with endpoint(manner=manner) as server:
        assert isinstance(ask(tmp_path, server, ["a"] * 60, concurrency=1)[-1], EndpointError)
        assert len(server.asked) == 8


def test_one_bad_clip_is_its_own_rejection(tmp_path):
    bad = Response(400, {"error": {"message": "This audio is too large."}})
    with endpoint(
        manner=lambda number, messages: bad if int(messages[0]["content"]) % 4 == 3 else GOOD
    ) as server:
        results = ask(tmp_path, server, [str(i) for i in range(60)], concurrency=2)
        assert results == ["Fine.", "Fine.", "Fine.", "endpoint_status_400"] * 15 and len(server.asked) == 60


def test_many_bad_clips_between_good_ones_are_their_own_rejections(tmp_path):
    """Half of all clips, in two runs of seven before an answer comes."""
    bad = Response(400, {"error": {"message": "This audio is too large."}})
    with endpoint(manner=lambda _, messages: GOOD if int(messages[0]["content"]) % 8 == 7 else bad) as server:
        results = ask(tmp_path, server, [str(i) for i in range(16)], concurrency=1)
    assert results == (["endpoint_status_400"] * 7 + ["Fine."]) * 2


def test_refusals_that_differ_are_given_more_patience(tmp_path):
    def manner(number, _):
        return Response(400, {"error": {"message": f"the audio of {number}.5 s is too long"}})

    with endpoint(manner=manner) as server:
        results = ask(tmp_path, server, ["a"] * 60, concurrency=1)
        assert len(server.asked) == 16 and results[:15] == ["endpoint_status_400"] * 15


def test_too_large_is_the_fault_of_each(tmp_path):
    large = Response(413, b"<html>413 Request Entity Too Large</html>")
    with endpoint(manner=lambda number, _: large if number < 12 else GOOD) as server:
        results = ask(tmp_path, server, ["a"] * 20, concurrency=1)
    assert results == ["endpoint_status_413"] * 12 + ["Fine."] * 8


@pytest.mark.parametrize("reply, reason", [
    (completion("Half of it, then", "content_filter"), "content_filter"),
    (completion("", "content_filter"), "content_filter"),
    (completion(None, "content_filter"), "content_filter"),
    (completion("A caption.", "SAFETY"), "content_filter"),
    (Response(400, {"error": {"message": "The response was filtered", "code": "content_filter"}}), "content_filter"),
    (Response(400, {"error": {"message": "No.", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
     "content_filter"),
    (completion(None, refusal="I cannot help with that."), "refusal"),
    (completion("", "stop", refusal="I cannot help with that."), "refusal"),
    (completion(None, "tool_calls", tool_calls=[{"id": "1", "type": "function"}]), "not_text"),
    (completion("Let me look.", "tool_calls"), "not_text"),
    (completion("Let me look.", "something_new"), "not_text"),
    (completion(None, "length", reasoning_content="Okay, the user"), "only_reasoning"),
    (completion("", "length", reasoning="Okay, the user"), "only_reasoning"),
])  # fmt: skip
def test_an_answer_that_tells_nothing_is_counted_and_paid_for_once(tmp_path, reply, reason):
    with endpoint(manner=lambda _, messages: reply if messages[0]["content"] == "bad" else GOOD) as server:
        prompts = ["bad"] * 12 + ["good"]
        expected = [f"endpoint_{reason}"] * 12 + ["Fine."]
        assert ask(tmp_path, server, prompts, concurrency=1) == expected and len(server.asked) == 13
        assert ask(tmp_path, server, prompts, concurrency=1) == expected and len(server.asked) == 13
    assert "Okay, the user" not in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.parametrize("reply", [
    completion("Fine.", "eos_token"), completion("Fine.", "STOP"), completion("Fine.", None), completion("Fine.", ""),
    completion([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Fine."}]),
    completion("Fine.", reasoning_content="Okay, the user wants", reasoning="Okay"),
])  # fmt: skip
def test_whole_answers_come_in_many_forms(tmp_path, reply):
    with endpoint(manner=lambda *_: reply) as server:
        assert ask(tmp_path, server, ["a"]) == ["Fine."]


@pytest.mark.parametrize("reply, error", [
    (completion("Fi", "abort"), "broken_off"), (completion("Fi", "error"), "broken_off"),
    (completion(None), "empty_answer"), (completion({"a": 1}), "no_choices"),
    (completion([{"type": "text", "text": 5}]), "no_choices"), (Response(200, [1]), "no_choices"),
    (Response(200, {"error": {"message": "upstream failed"}}), "no_choices"),
])  # fmt: skip
def test_answers_that_broke_are_asked_for_again(tmp_path, reply, error):
    with endpoint(manner=lambda number, _: reply if number == 0 else GOOD) as server:
        assert ask(tmp_path, server, ["a"]) == ["Fine."] and lines(tmp_path)[0]["error"] == error


def test_the_limit_has_the_name_that_is_set(tmp_path):
    with endpoint() as server:
        ask(tmp_path, server, ["a"])
        ask(tmp_path / "new", server, ["a"], max_tokens_name="max_completion_tokens")
    assert [(b.get("max_tokens"), b.get("max_completion_tokens")) for b in server.asked] == [
        (100, None), (None, 100),
    ]  # fmt: skip


KEYS = ["x", "a b", "$^.*[x](", "sk-secret-0123456789", 'quo"te\\slash-key', "sk+/=%20&<key>", "EMPTY"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_reaches_no_file_and_no_message(tmp_path, key, caplog):
    caplog.set_level("DEBUG")
    caption = f"A saxophone plays, an axe falls. {key[:1]}"

    def manner(number, _):
        if number == 0:
            return Response(
                500, {"error": {"message": f"worker got Authorization: Bearer {key} and fell over"}}
            )
        if number == 1:
            return Response(503, f"key={key};".encode() + b"y" * 70_000)
        if number == 2:
            return completion(caption, debug={"key": f"<<{key}>>"})
        return Response(401, {"error": {"message": f"incorrect key {key} for {key}"}})

    with endpoint(manner=manner) as server:
        results = ask(
            tmp_path, server, ["a", "b"], {"KEY": f" {key}\n"}, key_variable="KEY", concurrency=1, attempts=5
        )
        assert server.headers[0]["Authorization"] == f"Bearer {key}"
    assert results[0] == caption and "incorrect key … for …" in str(results[1])
    assert "what was answered is kept" in str(results[1]), "words that hold a letter of the key stay whole"
    journal = (tmp_path / "answers.jsonl").read_text()
    told = journal.replace(json.dumps(caption), "") + caplog.text + str(results[1])
    for form in {f"Bearer {key}", f"key {key}", f"key={key}", f"<<{key}>>"}:
        assert form not in told and json.dumps(form)[1:-1] not in told
    assert len(key) < 8 or key not in told + journal
    assert lines(tmp_path)[2]["answer"]["choices"][0]["message"]["content"] == caption


def test_a_key_across_the_end_of_what_is_stored_leaves_no_part(tmp_path):
    key = "sk-secret-0123456789"
    body = b"y" * ((1 << 16) - 8) + key.encode()
    with endpoint(manner=lambda *_: Response(400, body)) as server:
        ask(tmp_path, server, ["a"], {"KEY": key}, key_variable="KEY")
    assert "sk-" not in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "nul\0"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(tmp_path, key):
    with endpoint() as server, pytest.raises(EndpointError, match="variable KEY holds") as told:
        ask(tmp_path, server, ["a"], {"KEY": key}, key_variable="KEY")
    assert key not in str(told.value)


@pytest.mark.parametrize("url", ["http://user:hunter2@host/v1", "http://host/v1?api-key=hunter2"])
def test_a_url_holds_no_secret(tmp_path, url):
    with endpoint() as server, pytest.raises(ValueError, match="key_variable") as told:
        ask(tmp_path, server, ["a"], url=url)
    assert "hunter2" not in str(told.value)


def test_messages_are_found_however_they_are_wrapped():
    wrapped = [{"error": {"message": "No."}}, {"error": "No."}, {"message": "No."}, {"detail": "No."},
               {"detail": [{"msg": "No."}]}, [{"error": {"message": "No."}}], {"error": {"detail": "No."}}]  # fmt: skip
    assert {message_of(json.dumps(body)) for body in wrapped} == {"No."} == {message_of("No.")}
    for odd in ("[]", "[[]]", "{}", "null", '{"error": null}', '{"error": [5]}', "[" * 5000):
        assert message_of(odd) == odd
