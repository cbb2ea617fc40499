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
from collections.abc import Callable, Mapping

from bagpiper_jax.corpora.assembly import CorpusError, RecordError
from bagpiper_jax.curation.journal import Journal
from bagpiper_jax.curation.responses import FATAL, Failure, checked, content_of, tokens_of

_PATIENCE = 16
"""Requests given up in a row after which the endpoint counts as down."""
_TURNS = 10
"""Attempts answered with `Retry-After` that count as one."""


class EndpointError(CorpusError):
    """An endpoint that no request can succeed with; everything answered so far is kept."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where to ask, how patiently, and how much at most.

    Attributes:
        url: up to and including `/v1`.
        model: as the endpoint names it.
        key_variable: environment variable that holds the API key; unset or "" sends none. The key itself is never
            a setting, logged or stored.
        concurrency: requests under way at once.
        attempts: of one request, the first included.
        seconds: of one attempt altogether, however slowly an answer trickles.
        first_wait, longest_wait: seconds before the second attempt, doubled each time with jitter, and at most.
            `Retry-After` is kept by all requests, up to the longest wait.
        request_budget, token_budget: of all runs with this journal together; None is without limit. An attempt that
            timed out or was cut counts the most tokens it may have cost.
    """

    url: str = "http://localhost:8000/v1"
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
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
        if (
            min(self.concurrency, self.attempts) < 1
            or min(self.seconds, self.first_wait, self.longest_wait) <= 0
        ):
            raise ValueError("concurrency, attempts, seconds and waits must be positive")


@dataclasses.dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        stage, clip: what it is for.
        identity: everything that `messages` is made of, JSON-able; the same identity is not asked twice.
        messages: makes the chat messages; called only when the request is sent.
        size: upper bound of the tokens in `messages`.
    """

    stage: str
    clip: str
    identity: tuple
    messages: Callable[[], list[dict]]
    size: int
    temperature: float
    max_tokens: int

    def key(self, model: str) -> str:
        parts = (model, self.stage, self.clip, self.temperature, self.max_tokens, *self.identity)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class Answer:
    """`finished` is False where the length limit cut it off."""

    text: str
    finished: bool


def text_question(stage: str, clip: str, prompt: str, temperature: float, max_tokens: int) -> Question:
    """A question that is text alone."""
    messages = [{"role": "user", "content": prompt}]
    size = len(prompt.encode("utf-8", "replace"))  # a token is a byte at least
    return Question(stage, clip, (prompt,), lambda: messages, size, temperature, max_tokens)


class Client:
    """Asks; use as `async with`. One per job: it keeps the budget and everyone's waits."""

    def __init__(self, endpoint: Endpoint, journal: Journal, environment: Mapping[str, str] = os.environ):
        self._endpoint, self._journal = endpoint, journal
        self._key = environment.get(endpoint.key_variable, "") if endpoint.key_variable else ""
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._sent, self._reserved, self._given_up, self._not_before = journal.requests, 0, 0, 0.0
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
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )
        return self

    async def __aexit__(self, *_) -> None:
        await self._session.close()

    async def ask(self, question: Question) -> Answer:
        """The journaled answer, or a new one.

        Raises:
            RecordError: `endpoint_<reason>` after all attempts, `budget_spent`.
            EndpointError: no request can succeed.
        """
        key = question.key(self._endpoint.model)
        if (answer := self._journal.get(key)) is None:
            async with self._slots:
                answer = await self._retried(question, key)
        choice = answer["choices"][0]
        return Answer(choice["message"]["content"], choice.get("finish_reason") != "length")

    async def _retried(self, question: Question, key: str) -> dict:
        failures = asked_to_wait = 0
        while True:
            await self._wait_for_turn()
            try:
                answer = await self._attempt(question, key)
            except Failure as failed:
                # At a rate limit a request may have to wait its turn many times.
                asked_to_wait += failed.wait is not None
                failures += failed.wait is None
                spent = max(failures, asked_to_wait / _TURNS) >= self._endpoint.attempts
                if spent or not failed.again:
                    self._give_up(failed)
                    remedy = "run the same command again: what was answered is kept"
                    detail = f"{question.stage}: {failed}"
                    raise RecordError(f"endpoint_{failed.reason}", detail, remedy) from failed
                await self._back_off(failures, failed)
            else:
                self._given_up = 0
                return answer

    async def _wait_for_turn(self) -> None:
        while (wait := self._not_before - asyncio.get_running_loop().time()) > 0 and not self._fault:
            await asyncio.sleep(wait)
        if self._fault:
            raise self._fault

    async def _back_off(self, failures: int, failed: Failure) -> None:
        longest = self._endpoint.longest_wait
        if failed.wait is not None:  # the endpoint speaks to all
            until = asyncio.get_running_loop().time() + min(failed.wait, longest)
            self._not_before = max(self._not_before, until)
        else:
            wait = min(self._endpoint.first_wait * 2 ** (failures - 1), longest)
            await asyncio.sleep(wait * random.uniform(0.5, 1))

    def _give_up(self, last: Failure) -> None:
        self._given_up += last.again
        if self._given_up >= _PATIENCE:
            self._fault = EndpointError(
                f"{self._endpoint.url} is down: {self._given_up} requests in a row failed, the last with {last}; "
                "run the same command again when it is up, what was answered is kept"
            )
            raise self._fault

    @contextlib.contextmanager
    def _within_budget(self, question: Question):
        """Reserves what the attempt may cost. Raises RecordError `budget_spent`."""
        most, endpoint = question.size + question.max_tokens, self._endpoint
        tokens = self._journal.tokens + self._reserved + most
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
                answer = checked(*await self._post(body, key, most), most)
            except Failure as failed:
                failed.detail = self._without_key(failed.detail)
                await self._journal.add(
                    key, failed.tokens, **entry, error=failed.reason, detail=failed.detail
                )
                if failed.reason in FATAL:
                    self._fault = EndpointError(f"{self._endpoint.url}: {FATAL[failed.reason]}: {failed}")
                    raise self._fault from failed
                raise
            tokens = tokens_of(answer, most)
            answer = json.loads(self._without_key(json.dumps(answer)))
            await self._journal.add(key, tokens, **entry, answer=answer)
            return answer

    def _body(self, question: Question) -> bytes:
        settings = {"temperature": question.temperature, "max_tokens": question.max_tokens}
        return json.dumps(
            {"model": self._endpoint.model, "messages": question.messages(), **settings}
        ).encode()

    def _without_key(self, text: str) -> str:
        """Endpoints quote a wrong key in their errors."""
        return text.replace(self._key, "…") if self._key else text

    async def _post(self, body: bytes, key: str, most: int) -> tuple[int, Mapping, bytes]:
        """Status, headers and content. Raises Failure: nothing, or not everything, came back in time."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        try:
            # A redirect would take the key to another host.
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await content_of(response, most)
        except TimeoutError as error:
            raise Failure("timeout", f"no whole answer in {self._endpoint.seconds:g} s", most) from error
        except aiohttp.ClientConnectorError as error:
            raise Failure("unreachable", str(error)) from error
        except aiohttp.ClientError as error:
            raise Failure("cut", f"{type(error).__name__}: {error}", most) from error
