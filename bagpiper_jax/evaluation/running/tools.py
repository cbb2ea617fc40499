"""What benchmarks judge with: evaluator models that are opened when asked for, and a judge whose replies are kept."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, Endpoint, Question
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.running.kept import KeptAnswers, remembering


class Evaluators:
    """Evaluator models by name, each opened once. Safe to call from several threads."""

    def __init__(self, paths: Mapping[str, str], opens: Callable[[str, str], Any] | None = None):
        """
        Args:
            paths: name → where its files lie; one that is not named lies in an installed package.
            opens: makes an evaluator of a name and a path; None takes `evaluators.open_evaluator`.
        """
        self._paths, self._opens = dict(paths), opens
        self._opened: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._journal: Path | None = None
        self._answers: KeptAnswers | None = None

    @contextlib.contextmanager
    def keeping(self, journal: Path) -> Iterator[None]:
        """Keeps what is said within the block in a journal, and finds there what was said before."""
        self._journal = journal
        try:
            yield
        finally:
            if self._answers is not None:
                self._answers.close()
            self._opened, self._journal, self._answers = {}, None, None

    def open(self, name: str) -> Any:
        """The evaluator of that name.

        Raises:
            MissingEvaluatorError: it is not here.
            JournalError: another process keeps answers in the same journal.
        """
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._keeping(self._made(name))
            return self._opened[name]

    def _keeping(self, evaluator: Any) -> Any:
        if self._journal is None:
            return evaluator
        self._answers = self._answers or KeptAnswers(self._journal)
        return remembering(evaluator, self._answers)

    def _made(self, name: str) -> Any:
        if self._opens is not None:
            return self._opens(name, self._paths.get(name, ""))
        from bagpiper_jax.evaluation import evaluators

        return evaluators.open_evaluator(name, self._paths.get(name, ""))


class Judge:
    """A judge behind an endpoint, asked from any thread; raw replies are kept in a journal, and asked once."""

    def __init__(self, client: Client, model: str):
        self.model, self._client = model, client
        self._loop = asyncio.get_running_loop()

    def ask(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        """Raises RecordError: there is no answer to this item; EndpointError: to none."""
        said = json.dumps(messages, ensure_ascii=True, sort_keys=True)
        question = Question(
            stage, item, (said,), lambda: messages, len(said), temperature, max_tokens, again=True
        )
        return asyncio.run_coroutine_threadsafe(self._client.ask(question), self._loop).result().text


@contextlib.contextmanager
def judging(endpoint: Endpoint | None, journal: Path) -> Iterator[Judge | None]:
    """The judge at an endpoint, in an event loop of its own; None where none is named.

    Raises:
        EndpointError: no request can succeed.
        JournalError: another process writes the journal.
    """
    if endpoint is None:
        yield None
        return
    with Answers(journal) as answers, _loop() as loop:
        client = Client(endpoint, answers)
        judge = asyncio.run_coroutine_threadsafe(_opened(client, endpoint.model), loop).result()
        try:
            yield judge
        finally:
            asyncio.run_coroutine_threadsafe(client.__aexit__(None, None, None), loop).result()


async def _opened(client: Client, model: str) -> Judge:
    await client.__aenter__()
    return Judge(client, model)


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bagpiper-judge", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Toolbox:
    """The `Tools` of one benchmark.

    Attributes:
        used: name → version of the evaluators that it asked for.
        judged: whether it asked the judge.
    """

    def __init__(self, benchmark: str, evaluators: Evaluators):
        self._benchmark, self._evaluators = benchmark, evaluators
        self.judge_of_run: Judge | None = None
        self.used: dict[str, dict[str, str]] = {}
        self.judged = False

    def evaluator(self, name: str) -> Any:
        """As `Tools.evaluator`."""
        found = self._evaluators.open(name)
        self.used[name] = {
            "name": str(getattr(found, "name", name)),
            "version": str(getattr(found, "version", "")),
        }
        return found

    def judge(self, item: str, stage: str, messages: list[dict], temperature: float, max_tokens: int) -> str:
        """As `Tools.judge`."""
        if self.judge_of_run is None:
            raise MissingEvaluatorError(
                f"{self._benchmark} is judged by a model; name its endpoint with "
                "BenchmarkConfig.judge = @judge/Endpoint(), judge/Endpoint.url and judge/Endpoint.model"
            )
        self.judged = True
        stage = f"{self._benchmark}/{stage}"
        return self.judge_of_run.ask(item, stage, messages, temperature, max_tokens)
