"""Clients that leave, wait, read slowly or come in hundreds, and a server that ends."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tiny_server import NAME, SETTINGS, running

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.serving.config import Limits

LONG = dataclasses.replace(SETTINGS.loop, text=SamplingConfig(0.9, 0, 1, 900, 900))
HELLO = [{"role": "user", "content": "hello"}]


def until(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


class Held:
    """An engine whose device does as many calls as it is permitted."""

    def __init__(self, engine: Engine):
        self.permits, self._decode = threading.Semaphore(0), engine._core.decode
        self._core, self.is_over = engine._core, False
        self._core.decode = self.decode

    def decode(self):
        while not self.is_over and not self.permits.acquire(timeout=0.05):
            pass
        return self._decode()

    def release(self) -> None:
        self.is_over, self._core.decode = True, self._decode


@contextlib.contextmanager
def held(generator, limits=Limits(), loop=LONG):
    """A server over a held engine."""
    settings = dataclasses.replace(SETTINGS, limits=limits, loop=loop)
    with Engine(generator, SETTINGS.engine) as engine:
        holding = Held(engine)
        try:
            with running(generator, settings, engine) as server:
                try:
                    yield server, holding
                finally:
                    holding.release()
        finally:
            holding.release()


def connect(server, **asked) -> socket.socket:
    """A connection on which a chat has been asked and nothing read."""
    body = json.dumps({"model": NAME, "messages": HELLO} | asked).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def counted(server) -> dict[tuple, float]:
    """The values of all metrics, by name and labels."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def health(server) -> int:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
    connection.request("GET", "/health")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("streams", [False, True])
def test_who_leaves_frees_a_row(generator, streams):
    with held(generator) as (server, holding):
        connection = connect(server, stream=streams)
        until(lambda: server.engine.active)
        if streams:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.close()
        until(lambda: counted(server).get(("bagpiper_requests_total", "chat", "499")))
        for _ in range(3):  # of 225 that the answer would take
            holding.permits.release()
        until(lambda: server.engine.active == server.engine.waiting == 0)
        assert counted(server)["bagpiper_inside",] == 0


def test_who_finds_no_place_is_told_when_to_come_again(generator):
    with held(generator, Limits(queue=2), SETTINGS.loop) as (server, holding):
        places = SETTINGS.engine.rows + 2

        async def all_at_once():
            async with server.async_client(timeout=300) as client:
                asked = [
                    asyncio.ensure_future(client.chat.completions.create(model=NAME, messages=HELLO))
                    for _ in range(places)
                ]
                await asyncio.to_thread(until, lambda: counted(server)["bagpiper_inside",] == places)
                with pytest.raises(openai.RateLimitError) as fault:
                    await client.chat.completions.create(model=NAME, messages=HELLO)
                holding.release()
                return fault.value, await asyncio.gather(*asked)

        fault, answers = asyncio.run(all_at_once())
        assert fault.code == "rate_limit_exceeded" and 1 <= int(fault.response.headers["retry-after"]) <= 60
        assert len({answer.choices[0].message.content for answer in answers}) == 1
        assert server.client().chat.completions.create(model=NAME, messages=HELLO).choices


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_that_takes_too_long_is_ended(generator, streams):
    with held(generator, Limits(answer=0.5)) as (server, holding):
        with pytest.raises(openai.APIError) as fault:
            found = server.client().chat.completions.create(model=NAME, messages=HELLO, stream=streams)
            list(found)
        assert fault.value.code == "timeout"
        assert isinstance(fault.value, openai.InternalServerError) != streams  # 504 before anything was said
        holding.permits.release()
        until(lambda: server.engine.active == server.engine.waiting == 0)


def test_a_request_that_does_not_arrive_is_ended(served, generator, engine):
    settings = dataclasses.replace(SETTINGS, limits=Limits(upload=0.3))
    with running(generator, settings, engine) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=300) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        until(lambda: counted(server)["bagpiper_inside",] == 0)


def test_who_reads_nothing_is_left_and_others_are_not_kept(generator, engine):
    loud = dataclasses.replace(LONG, text=SETTINGS.loop.text, audio=SamplingConfig(0.9, 0, 1, 300, 300))
    settings = dataclasses.replace(SETTINGS, limits=Limits(stall=0.5), loop=loud)
    sound = {"modalities": ["text", "audio"], "audio": {"voice": "any", "format": "pcm16"}}
    with running(generator, settings, engine) as server:
        with contextlib.ExitStack() as stack:
            # More than fits between server and client.
            lazy = [stack.enter_context(connect(server, stream=True, **sound)) for _ in range(4)]
            asked = {"model": NAME, "messages": HELLO, "max_tokens": 5}
            assert server.client().chat.completions.create(**asked).choices
            until(lambda: counted(server)["bagpiper_inside",] == 0)
            assert counted(server)["bagpiper_requests_total", "chat", "499"] == 4
            lazy[0].settimeout(10)
            whole = b""
            with contextlib.suppress(ConnectionError):
                while part := lazy[0].recv(2**16):
                    whole += part
            # What was kept for it is not all that it would have got.
            assert 10_000 < len(whole) < 200_000 and b"[DONE]" not in whole


def test_hundreds_of_clients_each_get_their_own(generator, engine):
    settings = dataclasses.replace(SETTINGS, limits=Limits(queue=250))
    words = [f"marker {n}" for n in range(200)]
    loop = dataclasses.replace(SETTINGS.loop, modalities=("text",), max_segments=1)
    expected = [
        generator.reply([[Message("user", "text", word)]], dataclasses.replace(loop, seed=n))[0].text
        for n, word in enumerate(words)
    ]
    assert len(set(expected)) == len(words)

    async def ask(client, n) -> str:
        asked = {"model": NAME, "messages": [{"role": "user", "content": words[n]}], "seed": n}
        if n % 2:
            return (await client.chat.completions.create(**asked)).choices[0].message.content
        stream = await client.chat.completions.create(**asked, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_at_once():
        async with server.async_client(timeout=300) as client:
            return await asyncio.gather(*(ask(client, n) for n in range(len(words))))

    with running(generator, settings, engine) as server:
        assert asyncio.run(all_at_once()) == expected
        assert engine.active == engine.waiting == 0


def test_an_engine_that_broke_is_told_of(generator):
    with Engine(generator, SETTINGS.engine) as engine, running(generator, engine=engine) as server:
        assert health(server) == 200
        engine._core.decode = lambda: 1 / 0
        client = server.client()
        with pytest.raises(openai.InternalServerError) as fault:
            client.chat.completions.create(model=NAME, messages=HELLO)
        assert fault.value.status_code == 500 and "division" not in str(fault.value)
        with pytest.raises(openai.InternalServerError) as fault:
            client.chat.completions.create(model=NAME, messages=HELLO)
        assert fault.value.status_code == health(server) == 503


def test_metrics_count(generator, engine):
    with running(generator, engine=engine) as server:
        client = server.client()
        client.chat.completions.create(model=NAME, messages=HELLO, modalities=["text", "audio"])
        client.audio.speech.create(model=NAME, voice="alloy", input="hello")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=NAME, messages=HELLO, n=2)
        found = counted(server)
    assert (
        found["bagpiper_requests_total", "chat", "200"]
        == found["bagpiper_requests_total", "chat", "400"]
        == 1
    )
    assert found["bagpiper_requests_total", "speech", "200"] == 1
    assert found["bagpiper_rows_total", "audio"] == 2 * (SETTINGS.loop.audio.max_steps - 2)
    assert found["bagpiper_first_audio_seconds_count",] == found["bagpiper_first_text_seconds_count",] == 2
    assert found["bagpiper_active",] == found["bagpiper_waiting",] == 0 <= found["bagpiper_cache_used",] < 1


@pytest.mark.parametrize("asked", [False, True])
def test_the_log_has_what_clients_say_only_where_that_is_asked(generator, engine, caplog, asked):
    caplog.set_level(logging.DEBUG)
    settings = dataclasses.replace(SETTINGS, log_prompts=asked)
    with running(generator, settings, engine, key="a-secret-key") as server:
        client = server.client(api_key="a-secret-key")
        answer = client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "whispered"}]
        )
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=NAME, messages=[{"role": "tool", "content": "whispered"}])
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith(("bagpiper_jax", "uvicorn")))
    assert ("whispered" in ours) == asked and "a-secret-key" not in ours
    assert answer.choices[0].message.content not in ours
    assert "chat 200" in ours and "chat 400" in ours


@pytest.fixture
def process():
    """(its base URL, a server's process)."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("serve_tiny.py")
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        try:
            assert running.stdout is not None
            yield running.stdout.readline().strip(), running
        finally:
            running.kill()


def test_a_server_that_is_told_to_end_answers_what_it_has(process):
    url, running = process
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model=NAME, messages=HELLO, stream=True)
    first = next(iter(stream))
    running.send_signal(signal.SIGTERM)
    chunks = [first, *stream]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert running.wait(300) == 0
    with pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_a_server_that_is_killed_leaves_nobody_waiting(process):
    url, running = process
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model=NAME, messages=HELLO, stream=True)
    next(iter(stream))
    running.kill()
    with pytest.raises(openai.APIConnectionError):
        for _ in stream:
            pass
