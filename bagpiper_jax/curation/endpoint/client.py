"""Asking any OpenAI-compatible endpoint: many at once, retried, within a budget, every answer journaled.

A request that was answered is never sent again. What was in flight when a job is killed is sent again, with the same
`Idempotency-Key`, since nobody knows whether it was answered.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.credentials import ApiKey
from bagpiper_jax.curation.endpoint.failures import Declined, EndpointError, Failure
from bagpiper_jax.curation.endpoint.patience import Patience, remedy_of
from bagpiper_jax.curation.endpoint.responses import (
    checked,
    content_of,
    is_cut,
    keep_sound,
    require_told,
    tokens_of,
)
from bagpiper_jax.outcomes import RecordError

_TURNS = 10
"""Attempts answered with `Retry-After` that count as one."""
_FIRST = 8
"""Requests under way until one is answered, so that few meet a fault that all would meet."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where to ask, how patiently, and how much at most.

    Attributes:
        url: the address that the API's paths begin with, up to and including `/v1`.
        model: the model's name at the endpoint.
        key_variable: the environment variable that holds the API key; unset or "" sends none. The key itself is never
            a setting, logged or stored.
        max_tokens_name: the name under which the endpoint takes the limit of an answer's tokens. Newer OpenAI models
            refuse `max_tokens`.
        concurrency: the number of requests under way at once.
        attempts: the number of attempts at one request, the first included.
        seconds: the time that one attempt may take altogether, however slowly an answer trickles.
        first_wait, longest_wait: the seconds to wait before the second attempt, and before any. Waits double, with
            jitter. `Retry-After` holds back all requests, up to the longest wait.
        request_budget, token_budget: the most requests and tokens of all runs with the same answers.jsonl together;
            None is without limit. An attempt that timed out or was cut counts the most tokens it may have cost.
    """

    url: str = "http://localhost:8000/v1"
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: int = 64
    attempts: int = 6
    seconds: float = 300.0
    first_wait: float = 1.0
    longest_wait: float = 120.0
    request_budget: int | None = None
    token_budget: int | None = None

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} must begin with http:// or https://")
        parts = urllib.parse.urlsplit(self.url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password or query; the key comes from `key_variable` alone"
            )
        if (
            min(self.concurrency, self.attempts) < 1
            or min(self.seconds, self.first_wait, self.longest_wait) <= 0
        ):
            raise ValueError("concurrency, attempts, seconds and waits must be positive")


@dataclasses.dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        stage, clip: the stage of a job and the id of the clip that the request is for.
        identity: everything that `messages` is made of, JSON-able; the same identity is not asked twice.
        messages: makes the chat messages; called only when the request is sent.
        size: an upper bound of the tokens in `messages`.
        temperature, max_tokens: the sampling temperature, and the most tokens of the answer.
        further: fields of the request besides; what an answer depends on is in `identity` too.
        sound: the file that the answer's sound is written to, where one is asked for.
        again: whether it is asked again what an answer without use was journaled to, such as a refusal.
    """

    stage: str
    clip: str
    identity: tuple
    messages: Callable[[], list[dict]]
    size: int
    temperature: float
    max_tokens: int
    further: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sound: Path | None = None
    again: bool = False

    def key(self, model: str) -> str:
        parts = (model, self.stage, self.clip, self.temperature, self.max_tokens, *self.identity)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: what it wrote, or the transcript of what it spoke.
        finished: False where the length limit cut it off.
        sound: the file of its sound, None where it has none.
    """

    text: str
    finished: bool
    sound: Path | None = None


def text_question(stage: str, clip: str, prompt: str, temperature: float, max_tokens: int) -> Question:
    """A question that is text alone."""
    messages = [{"role": "user", "content": prompt}]
    size = len(prompt.encode("utf-8", "replace"))  # a token is a byte at least
    return Question(stage, clip, (prompt,), lambda: messages, size, temperature, max_tokens)


class Client:
    """Asks; use as `async with`. One per job: it keeps the budget and everyone's waits."""

    def __init__(self, endpoint: Endpoint, answers: Answers, environment: Mapping[str, str] = os.environ):
        """Raises EndpointError: the key cannot be sent."""
        self._endpoint, self._answers = endpoint, answers
        self._key = ApiKey(endpoint.key_variable, environment)
        self._held_back = max(endpoint.concurrency - _FIRST, 0)
        self._slots = asyncio.Semaphore(endpoint.concurrency - self._held_back)
        self._sent, self._reserved, self._not_before = answers.requests, 0, 0.0
        self._patience = Patience(self._key.redact(endpoint.url))
        self._fault: EndpointError | None = None

    async def __aenter__(self) -> "Client":
        """Raises EndpointError: no model is named, or aiohttp is missing."""
        if not self._endpoint.model:
            raise EndpointError("Endpoint.model is empty; name the model as the endpoint does")
        try:
            import aiohttp
        except ImportError as error:
            raise EndpointError(
                "asking an endpoint needs aiohttp: pip install 'bagpiper_jax[curation]'"
            ) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._endpoint.concurrency),
            timeout=aiohttp.ClientTimeout(total=self._endpoint.seconds),
            headers=self._key.headers,
        )
        return self

    async def __aexit__(self, *_) -> None:
        await self._session.close()

    async def ask(self, question: Question) -> Answer:
        """The journaled answer, or a new one.

        Raises:
            RecordError: `endpoint_<reason>` after all attempts, `budget_spent`.
            EndpointError: no request can succeed.
            JournalError: an answer cannot be written.
        """
        key = question.key(self._endpoint.model)
        try:
            answer = self._answers.get(key)
            if answer is None or not _is_of_use(answer, question):
                async with self._slots:
                    answer = await self._retried(question, key)
            require_told(answer)
        except Failure as failed:
            detail = f"{question.stage}: {failed}"
            raise RecordError(f"endpoint_{failed.reason}", detail, remedy_of(failed)) from failed
        message = answer["choices"][0]["message"]
        sound = question.sound if "sound" in message else None
        return Answer(message["content"], not is_cut(answer), sound)

    async def _retried(self, question: Question, key: str) -> dict:
        """The answer of the first attempt that gives one. Raises Failure: none did; EndpointError: none can."""
        failures = asked_to_wait = 0
        while True:
            await self._wait_for_turn()
            try:
                answer = await self._attempt(question, key)
            except Failure as failed:
                if isinstance(failed, Declined):
                    self._answered()
                    raise
                self._end_if(self._patience.fault_at_once(failed))
                # At a rate limit a request may have to wait its turn many times.
                asked_to_wait += failed.wait is not None
                failures += failed.wait is None
                spent = max(failures, asked_to_wait / _TURNS) >= self._endpoint.attempts
                if spent or not failed.again:
                    self._end_if(self._patience.fault_after(failed))
                    raise
                await self._back_off(failures, failed)
            else:
                self._answered()
                return answer

    def _answered(self) -> None:
        self._patience.answered()
        while self._held_back:
            self._held_back -= 1
            self._slots.release()

    def _end_if(self, fault: EndpointError | None) -> None:
        """Raises the fault, here and in every other request, if there is one."""
        if fault:
            self._fault = fault
            raise fault

    async def _wait_for_turn(self) -> None:
        while (wait := self._not_before - asyncio.get_running_loop().time()) > 0 and not self._fault:
            await asyncio.sleep(wait)
        if self._fault:
            raise self._fault

    async def _back_off(self, failures: int, failed: Failure) -> None:
        longest = self._endpoint.longest_wait
        if failed.wait is not None:  # a rate limit counts the requests of all, so all wait
            until = asyncio.get_running_loop().time() + min(failed.wait, longest)
            self._not_before = max(self._not_before, until)
        else:
            wait = min(self._endpoint.first_wait * 2 ** (failures - 1), longest)
            await asyncio.sleep(wait * random.uniform(0.5, 1))

    @contextlib.contextmanager
    def _within_budget(self, question: Question):
        """Reserves what the attempt may cost. Raises RecordError `budget_spent`."""
        most, endpoint = question.size + question.max_tokens, self._endpoint
        tokens = self._answers.tokens + self._reserved + most
        for name, needed, budget in (
            ("request_budget", self._sent + 1, endpoint.request_budget),
            ("token_budget", tokens, endpoint.token_budget),
        ):
            if budget is not None and needed > budget:
                remedy = f"raise Endpoint.{name} and run again, nothing is paid twice"
                raise RecordError("budget_spent", f"{name} is {budget}", remedy)
        self._sent += 1
        self._reserved += most
        try:
            yield most
        finally:
            self._reserved -= most

    async def _attempt(self, question: Question, key: str) -> dict:
        """One request, journaled whatever comes of it. Raises Failure."""
        entry = {"stage": question.stage, "clip": question.clip}
        body = await asyncio.to_thread(self._body, question)
        with self._within_budget(question) as most:
            try:
                sounds = question.sound is not None
                response = await self._post(body, key, most, sounds)
                answer = checked(*response, most, self._key.redact, sounds)
                if question.sound is not None:
                    await asyncio.to_thread(keep_sound, answer, question.sound)
            except Declined as declined:
                tokens = tokens_of(declined.answer, most)
                await self._answers.add(key, tokens, **entry, answer=declined.answer)
                raise
            except Failure as failed:
                failed.detail = self._key.redact(failed.detail)
                await self._answers.add(
                    key, failed.tokens, **entry, error=failed.reason, detail=failed.detail
                )
                raise
            await self._answers.add(key, tokens_of(answer, most), **entry, answer=answer)
            return answer

    def _body(self, question: Question) -> bytes:
        settings = {
            "temperature": question.temperature,
            self._endpoint.max_tokens_name: question.max_tokens,
        }
        return json.dumps(
            {"model": self._endpoint.model, "messages": question.messages(), **settings, **question.further}
        ).encode()

    async def _post(self, body: bytes, key: str, most: int, sounds: bool) -> tuple[int, Mapping, bytes]:
        """Status, headers and content. Raises Failure: nothing, or not everything, came back in time."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        try:
            # A redirect would take the key to another host.
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await content_of(response, most, sounds)
        except TimeoutError as error:
            raise Failure("timeout", f"no whole answer in {self._endpoint.seconds:g} s", most) from error
        except aiohttp.ClientConnectorError as error:
            raise Failure("unreachable", str(error)) from error
        except aiohttp.ClientError as error:
            raise Failure("cut", f"{type(error).__name__}: {error}", most) from error


def _is_of_use(answer: dict, question: Question) -> bool:
    """Whether a journaled answer serves a question: nothing is paid twice that does."""
    if question.sound is not None and not question.sound.is_file():
        return False
    try:
        require_told(answer)
    except Declined:
        return not question.again
    return True
