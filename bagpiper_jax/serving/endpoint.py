"""What both endpoints of the API do around an answer: they let in, read, watch the client, tell of faults and count."""

import abc
import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from bagpiper_jax.dialogue import DialogueError, Rendered
from bagpiper_jax.errors import Explained
from bagpiper_jax.generation.replies import GeneratorError
from bagpiper_jax.generation.requests import EngineError
from bagpiper_jax.serving.answers import Answer, Piece, Sound
from bagpiper_jax.serving.asking import Question
from bagpiper_jax.serving.faults import UNREAD, APIError, invalid, of_server
from bagpiper_jax.serving.gate import Gate
from bagpiper_jax.serving.metrics import Metrics
from bagpiper_jax.serving.model import Served
from bagpiper_jax.serving.sending import Outgoing, Stalled, while_connected

_log = logging.getLogger(__name__)


class Endpoint(abc.ABC):
    """An ASGI application that answers POST requests of one kind.

    Attributes:
        name: of its lines in the log and its counters.
        models: those that answer, by the names that clients call them.
    """

    name = ""

    def __init__(self, models: Mapping[str, Served], gate: Gate, metrics: Metrics, log_prompts: bool = False):
        self.models, self.gate, self.metrics, self._log_prompts = models, gate, metrics, log_prompts

    @abc.abstractmethod
    async def respond(self, body: bytes, outgoing: Outgoing, began: float) -> None:
        """Answers one request. Raises APIError."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, label = time.monotonic(), f"req_{uuid.uuid4().hex}"
        outgoing = Outgoing(
            send, self.gate.limits.stall, {"x-request-id": label, "Cache-Control": "no-store"}
        )
        status = UNREAD
        try:
            status = await self._answer(Request(scope, receive), receive, outgoing, began)
        except APIError as error:
            status = error.status
            await _tell(outgoing, error)
        except Stalled:
            pass
        except Exception as error:
            status = 500
            # Explained faults are of one dialogue; all others are the program's, and the log has them whole.
            _log.error("%s failed", label, exc_info=None if isinstance(error, Explained) else error)
            await _tell(outgoing, of_server(error))
        finally:
            seconds = time.monotonic() - began
            self.metrics.requests.labels(self.name, status).inc()
            self.metrics.seconds.labels(self.name).observe(seconds)
            _log.info("%s %s %d %.2f s", label, self.name, status, seconds)

    async def _answer(self, request: Request, receive: Receive, outgoing: Outgoing, began: float) -> int:
        self.gate.check_key(request)
        with self.gate.admitted():
            body = await self.gate.body(request)
            try:
                async with asyncio.timeout(self.gate.limits.answer):
                    done = await while_connected(receive, self.respond(body, outgoing, began))
            except TimeoutError:
                limit = self.gate.limits.answer
                raise APIError(504, f"there was no whole answer after {limit:g} s", "timeout") from None
            return outgoing.status if done or outgoing.has_ended else UNREAD

    def model(self, name: str) -> Served:
        """The model that is asked. Raises APIError: there is none of this name."""
        if name not in self.models:
            there = " and ".join(f"'{known}'" for known in self.models)
            plain = "this one is" if len(self.models) == 1 else "there are"
            told = f"The model '{name}' does not exist; {plain} {there}."
            raise APIError(404, told, "model_not_found", "model")
        return self.models[name]

    @contextlib.asynccontextmanager
    async def answer(
        self, served: Served, question: Question, began: float
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[Piece], Rendered]]:
        """The answer, its pieces, and the prompt; the engine forgets the question when the context is left.

        Raises:
            APIError: the question cannot be asked, or what the engine's stream raises.
        """
        if self._log_prompts:
            _log.info(
                "asked: %s", [m.content if m.modality == "text" else "audio" for m in question.dialogue]
            )
        if not served.engine.is_open:
            raise APIError(503, "the engine has ended; the server has to be started again", "engine_ended")
        with told_of_dialogues():
            stream = served.engine.submit(question.dialogue, question.loop, begun=question.begun)
        answer = Answer(stream, served.generator.tokenizer, served.generator.hop)
        try:
            yield answer, self._timed(answer, began, served.generator.hop), stream.prompt
        finally:
            stream.cancel()
            self.metrics.rows.labels("text").inc(answer.text_tokens)

    async def _timed(self, answer: Answer, began: float, hop: int) -> AsyncIterator[Piece]:
        firsts = {True: self.metrics.first_sound, False: self.metrics.first_text}
        async for piece in answer.pieces():
            if first := firsts.pop(isinstance(piece, Sound), None):
                first.observe(time.monotonic() - began)
            if isinstance(piece, Sound):
                self.metrics.rows.labels("audio").inc(len(piece.samples) // hop)
            yield piece


@contextlib.contextmanager
def told_of_dialogues():
    """Faults of a dialogue that cannot be asked become the client's."""
    try:
        yield
    except EngineError as error:
        raise invalid(str(error), "messages", "context_length_exceeded") from error
    except (DialogueError, GeneratorError) as error:
        raise invalid(str(error), "messages") from error


async def _tell(outgoing: Outgoing, error: APIError) -> None:
    """The error as a response; of a stream of events that has begun as its last event; else the stream is cut."""
    with contextlib.suppress(Stalled):
        if not outgoing.status:
            await outgoing.json(error.body, error.status, error.headers)
        elif outgoing.sends_events and not outgoing.has_ended:
            await outgoing.event(error.body)
            await outgoing.end()
