"""A real HTTP server that answers chat completions, or misbehaves as it is told."""

import collections
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

GOOD = "good"
USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


class Response(NamedTuple):
    """A response as it is sent; `body` is sent as JSON unless it is bytes."""

    status: int
    body: object
    headers: dict[str, str] = {}


def completion(content, finish_reason="stop", **message) -> Response:
    """A chat completion with any content, end and further fields of the message."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    return Response(200, {"choices": [{**choice, "finish_reason": finish_reason}], "usage": USAGE})


class Endpoint:
    """Counts what it was asked and what it answered.

    Attributes:
        answer: the text to answer a request's messages with.
        manner: how to treat the n-th request (from 0) with these messages: `GOOD`, a method name of `_Handler`, or a
            `Response` to send.
        asked: every request's body. paid: how often each request was answered well, by its text. headers: as received.
    """

    def __init__(self, answer: Callable[[list], str], manner: Callable[[int, list], str | Response]):
        self.answer, self.manner = answer, manner
        self.asked, self.headers, self.paid = [], [], collections.Counter()
        self.lock, self.release = threading.Lock(), threading.Event()
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@contextlib.contextmanager
def endpoint(answer=lambda messages: "Fine.", manner=lambda number, messages: GOOD) -> Iterator[Endpoint]:
    told = Endpoint(answer, manner)

    class Handler(_Handler):
        endpoint = told

    told.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.server.daemon_threads = True
    thread = threading.Thread(target=told.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        told.release.set()
        told.server.shutdown()
        told.server.server_close()
        thread.join()


def text_of(messages: list) -> str:
    """What stands for a request in `paid`: its text, or the start of its audio."""
    content = messages[-1]["content"]
    return content if isinstance(content, str) else json.dumps(content)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = self.endpoint
        with told.lock:
            number = len(told.asked)
            told.asked.append(body)
            told.headers.append(dict(self.headers))
            told.under_way += 1
            told.most_under_way = max(told.most_under_way, told.under_way)
        try:
            manner = told.manner(number, body["messages"])
            if isinstance(manner, Response):
                content = manner.body if isinstance(manner.body, bytes) else json.dumps(manner.body).encode()
                self._send(manner.status, content, **manner.headers)
            else:
                getattr(self, manner)(body["messages"])
        except OSError:  # the client gave up
            self.close_connection = True
        finally:
            with told.lock:
                told.under_way -= 1

    def _send(self, status: int, content: bytes, **headers):
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def _completion(self, messages: list, **choice) -> bytes:
        message = {"role": "assistant", "content": self.endpoint.answer(messages)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **choice}
        return json.dumps({"id": "x", "choices": [choice], "usage": USAGE}).encode()

    def good(self, messages):
        content = self._completion(messages)
        with self.endpoint.lock:
            self.endpoint.paid[text_of(messages)] += 1
        self._send(200, content)

    def length(self, messages):
        self._send(200, self._completion(messages, finish_reason="length"))

    def hang(self, messages):
        self.endpoint.release.wait(30)
        self.close_connection = True

    def too_many(self, messages):
        self._send(429, b'{"error": "slow down"}', Retry_After="0.05")

    def too_many_for_long(self, messages):
        self._send(429, b'{"error": "slow down"}', Retry_After="60")

    def too_many_untold(self, messages):
        self._send(429, b'{"error": "slow down"}')

    def server_error(self, messages):
        self._send(500, b"<html>oops</html>")

    def refused(self, messages):
        self._send(400, b'{"error": "too long a prompt"}')

    def bad_key(self, messages):
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self._send(401, json.dumps({"error": f"incorrect key {key}"}).encode())

    def redirect(self, messages):
        self._send(307, b"", Location="http://127.0.0.1:9/elsewhere")

    def broken_json(self, messages):
        self._send(200, self._completion(messages)[:40])

    def not_text(self, messages):
        self._send(200, b"\xff\xfe\x00not utf-8")

    def no_choices(self, messages):
        self._send(200, json.dumps({"choices": [], "usage": USAGE}).encode())

    def empty_answer(self, messages):
        self._send(200, self._completion(messages, message={"content": "  "}))

    def surrogate(self, messages):
        self._send(200, self._completion(messages, message={"content": "half \ud800 a pair"}))

    def cut(self, messages):
        content = self._completion(messages)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def trickle(self, messages):
        content = self._completion(messages)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for place in range(len(content)):
            self.wfile.write(content[place : place + 1])
            self.wfile.flush()
            if self.endpoint.release.wait(0.05):
                return

    def flood(self, messages):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        while not self.endpoint.release.is_set():
            self.wfile.write(b"x" * (1 << 16))
