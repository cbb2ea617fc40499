"""What is not answered is refused in OpenAI's form, before it costs anything."""

import base64
import dataclasses
import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import openai
import pytest
from tiny_server import NAME, SETTINGS, file_of, running

from bagpiper_jax.errors import Explained
from bagpiper_jax.serving import clips
from bagpiper_jax.serving.config import Limits
from bagpiper_jax.serving.job import bound, key_of

CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"
SILENCE = file_of(np.zeros(16_000, np.float32))


def post(server, path, body, headers=()):
    """(status, headers, JSON) of a request as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json", **dict(headers)})
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())
    finally:
        connection.close()


def chat(**more) -> dict:
    return {"model": NAME, "messages": [{"role": "user", "content": "rain"}]} | more


def sent(*parts, role="user") -> dict:
    return chat(messages=[{"role": role, "content": list(parts)}])


def clip(data: bytes | str, format="wav") -> dict:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": text, "format": format}}


def url(address: str) -> dict:
    return {"type": "audio_url", "audio_url": {"url": address}}


TOO_LONG = file_of(np.zeros(200 * 8000, np.float32), "FLAC", 8000)
REFUSED = [
    # Fields that would change the answer.
    (chat(n=2), "n", "unsupported_parameter"),
    (chat(logprobs=True), "logprobs", "unsupported_parameter"),
    (chat(tools=[{"type": "function"}]), "tools", "unsupported_parameter"),
    (chat(stop=["."]), "stop", "unsupported_parameter"),
    (chat(top_p=0.5), "top_p", "unsupported_parameter"),
    (chat(response_format={"type": "json_object"}), "response_format", "unsupported_parameter"),
    (chat(temprature=1), "temprature", "unknown_parameter"),
    # Fields of the wrong kind.
    ({"messages": []}, "model", "missing_required_parameter"),
    (chat(messages=[]), "messages", "invalid_value"),
    (chat(messages="rain"), "messages", "invalid_value"),
    (chat(temperature=3), "temperature", "invalid_value"),
    (chat(temperature="1"), "temperature", "invalid_value"),
    (chat(max_tokens=0), "max_tokens", "invalid_value"),
    (chat(modalities=["video"]), "modalities.0", "invalid_value"),
    (chat(audio={"voice": "x", "format": "aac"}), "audio.format", "invalid_value"),
    (chat(stream=True, modalities=["text", "audio"], audio={"format": "wav"}), "audio.format", "unsupported_value"),
    (b"{", None, "invalid_json"),
    (b"[]", None, "invalid_json"),
    (b'{"model": "a", "model": "b"}', None, "invalid_json"),
    (b"[" * 100_000, None, "invalid_json"),
    # Messages that the model cannot be asked.
    (chat(messages=[{"role": "system", "content": "Listen."}]), "messages", "invalid_value"),
    (chat(messages=[{"role": "user", "content": "  "}]), "messages", "invalid_value"),
    (chat(messages=[{"role": "tool", "content": "x"}]), "messages.0.role", "invalid_value"),
    (chat(messages=[{"role": role, "content": "x"} for role in ("user", "assistant", "user")]),
     "messages.1.role", "unsupported_value"),
    (chat(messages=[{"role": role, "content": "x"} for role in ("user", "assistant")], modalities=["audio"]),
     "modalities", "invalid_value"),
    (chat(messages=[{"role": "user", "content": "x" * 40_000}]), "messages", "string_above_max_length"),
    (chat(messages=[{"role": "user", "content": "x" * 5000}]), "messages", "context_length_exceeded"),
    (sent({"type": "image_url", "image_url": {"url": "x"}}), "messages.0.content.0", "invalid_value"),
    (sent(clip(SILENCE), role="system"), "messages.0.content.0", "invalid_value"),
    (sent(clip(SILENCE), clip(SILENCE)), "messages.0.content.1", "too_many_clips"),
    # Clips that are none.
    (sent(clip("%%%")), "messages.0.content.0.input_audio.data", "invalid_base64"),
    (sent(clip(b"no sound at all")), "messages.0.content.0", "invalid_audio"),
    (sent(clip(b"")), "messages.0.content.0", "invalid_audio"),
    (sent(clip(SILENCE[:-100])), "messages.0.content.0", "invalid_audio"),
    (sent(clip(file_of(np.zeros(20, np.float32)))), "messages.0.content.0", "invalid_audio"),
    (sent(clip(TOO_LONG, "flac")), "messages.0.content.0", "audio_too_long"),
    (sent(clip(SILENCE, "exe")), "messages.0.content.0.input_audio.format", "invalid_value"),
    (sent(url("data:audio/wav,abc")), "messages.0.content.0.audio_url.url", "invalid_value"),
    (sent(url("http://127.0.0.1:1/a.wav")), "messages.0.content.0.audio_url.url", "url_not_allowed"),
    (sent(url("https://example.org/a.wav")), "messages.0.content.0.audio_url.url", "url_not_allowed"),
    (sent(url("file:///etc/passwd")), "messages.0.content.0.audio_url.url", "url_not_allowed"),
]  # fmt: skip


@pytest.mark.parametrize("body, param, code", REFUSED)
def test_a_request_that_cannot_be_answered_is_refused_by_name(served, body, param, code):
    status, headers, told = post(served, CHAT, body)
    assert status == 400, told
    error = told["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (param, code), error
    assert error["message"] and headers["x-request-id"].startswith("req_")
    assert served.engine.active == served.engine.waiting == 0


@pytest.mark.parametrize("body, param", [
    ({"speed": 2.0}, "speed"), ({"input": ""}, "input"), ({"input": "x" * 4097}, "input"),
    ({"response_format": "aac"}, "response_format"),
    ({"stream_format": "sse", "response_format": "flac"}, "response_format"),
    ({"tools": [{"type": "function"}]}, "tools"),
])  # fmt: skip
def test_speech_that_cannot_be_made_is_refused_by_name(served, body, param):
    status, _, told = post(served, SPEECH, {"model": NAME, "voice": "alloy", "input": "Good morning."} | body)
    assert status == 400 and told["error"]["param"] == param, told


def test_fields_that_ask_for_nothing_are_taken(served):
    neutral = dict(
        n=1, logprobs=False, tools=[], stop=None, top_p=1, user="me", metadata={"a": "b"}, seed=None
    )
    status, _, told = post(served, CHAT, chat(**neutral))
    assert status == 200, told


def test_another_model_and_another_place_are_not_found(served):
    with pytest.raises(openai.NotFoundError) as fault:
        served.client().chat.completions.create(model="gpt", messages=[{"role": "user", "content": "x"}])
    assert (fault.value.code, fault.value.param) == ("model_not_found", "model")
    assert post(served, "/v1/embeddings", {})[0] == 404
    assert post(served, "/v1/models", {})[0] == 405
    assert post(served, "/v1/models", {})[2]["error"]["type"]


def test_only_json_is_read(served):
    """Else any page of the web could ask a server on its reader's machine, without the browser asking first."""
    status, _, told = post(served, CHAT, chat(), {"Content-Type": "text/plain"})
    assert status == 415 and told["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_is_too_large_is_not_read(generator, engine, chunked):
    settings = dataclasses.replace(SETTINGS, limits=Limits(body=0.1))
    with running(generator, settings, engine) as server:
        data = json.dumps(chat(messages=[{"role": "user", "content": "x" * 300_000}])).encode()
        parts = (data[start : start + 10_000] for start in range(0, len(data), 10_000))
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
        body = parts if chunked else data
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"}, encode_chunked=chunked)
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["error"]["code"] == "request_too_large"
        assert server.client().models.list().data


def test_a_key_opens_the_api_and_nothing_else_does(generator, engine):
    with running(generator, engine=engine, key="right-key") as server:
        assert server.client(api_key="right-key").models.list().data
        for key in ("wrong-key", "right-ke", "right-key2", "Right-key"):
            with pytest.raises(openai.AuthenticationError) as fault:
                server.client(api_key=key).models.list()
            assert fault.value.code == "invalid_api_key" and "right" not in str(fault.value)
        for path in (CHAT, SPEECH):
            assert post(server, path, b"{")[0] == 401  # before anything is read
            assert post(server, path, b"{", {"Authorization": "Basic right-key"})[0] == 401
            assert post(server, path, b"{", {"Authorization": "Bearer \xe9"})[0] == 401
            assert post(server, path, b"{", {"Authorization": "bearer right-key"})[0] == 400


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused_at_the_start(key):
    assert key_of("KEY", {"KEY": " abc\n"}) == "abc" and key_of("", {"": "abc"}) == ""
    with pytest.raises(Explained, match="KEY"):
        key_of("KEY", {"KEY": key})


def test_an_address_that_is_taken_is_refused_at_the_start():
    with bound("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(Explained, match="cannot be listened at"):
            bound("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(Explained, match="cannot be listened at"):
        bound("no.such.host.invalid", 80)


class Moved(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/clip")
        self.end_headers()
        self.wfile.write(SILENCE)

    def log_message(self, *_):
        pass


def test_only_named_hosts_are_asked_and_they_lead_nowhere_else(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Moved) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        try:
            reader = clips.Clips(Limits(), ("Clips.example",))
            opener = clips._OPENER.open

            def plainly(address, timeout):  # https is what is asked for; the test's host has no certificate
                path = address.removeprefix("https://clips.example")
                return opener(f"http://127.0.0.1:{host.server_port}{path}", timeout=timeout)

            monkeypatch.setattr(clips._OPENER, "open", plainly)
            assert reader._fetched("https://clips.example/clip", "p") == SILENCE
            with pytest.raises(Explained, match="could not be fetched"):
                reader._fetched("https://clips.example/moved", "p")
            for other in (
                "https://clips.example.evil/clip",
                "https://evil@127.0.0.1/clip",
                "http://clips.example/clip",
            ):
                with pytest.raises(Explained, match="fetches no clip"):
                    reader._fetched(other, "p")
        finally:
            host.shutdown()
