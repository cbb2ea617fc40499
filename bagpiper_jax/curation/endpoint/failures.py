"""Why there is no answer: what becomes of an attempt, and the fault that ends a job."""

import json

from bagpiper_jax.errors import Explained


class EndpointError(Explained):
    """An endpoint that no request can succeed with; everything answered so far is kept."""


class Failure(Exception):
    """An attempt without an answer.

    Attributes:
        reason: a short name to count by, `status_<number>` for an HTTP status.
        detail: what came back, or what went wrong on the way.
        tokens: the most tokens that the attempt may have cost.
        wait: seconds to wait before the next attempt if the endpoint told, else None.
        again: whether another attempt may succeed.
    """

    def __init__(
        self, reason: str, detail: str, tokens: int = 0, wait: float | None = None, again: bool = True
    ):
        super().__init__(reason)
        self.reason, self.detail, self.tokens, self.wait, self.again = reason, detail, tokens, wait, again

    def __str__(self) -> str:
        return f"{self.reason}: {message_of(self.detail)[:300]}"


class Declined(Failure):
    """The endpoint works and gives this request no answer: it was filtered or refused, or another tool was called.

    Attributes:
        answer: what is journaled, so that the same is not asked and paid for again.
    """

    def __init__(self, reason: str, detail: str, answer: dict):
        super().__init__(reason, detail, again=False)
        self.answer = answer


def message_of(detail: str) -> str:
    """The message in the body of an error, however the server wraps it, else the body itself."""
    error = _error_of(detail)
    if isinstance(error, list) and error:  # FastAPI's: what is wrong with each field
        error = error[0]
    if isinstance(error, dict):
        error = error.get("message") or error.get("msg") or error.get("detail")
    return error if isinstance(error, str) and error.strip() else detail


def codes_of(detail: str) -> set[str]:
    """The names that the body of an error gives its kind, in lower case."""
    error = _error_of(detail)
    inner = error.get("innererror") if isinstance(error, dict) else None
    tables = [table for table in (error, inner) if isinstance(table, dict)]
    found = [table.get(name) for table in tables for name in ("code", "type")]
    return {code.lower() for code in found if isinstance(code, str)}


def _error_of(detail: str) -> object:
    try:
        body = json.loads(detail)
    except (ValueError, RecursionError):
        return None
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return None
    return next((body[name] for name in ("error", "message", "detail") if body.get(name)), None)
