"""What a client is told when it gets no answer, in the form of OpenAI's API."""

from typing import Any

from pydantic import ValidationError

from bagpiper_jax.errors import Explained

UNREAD = 499
"""The status, in logs and metrics, of a request whose client left; nobody is told it."""

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error",
          408: "timeout_error", 413: "invalid_request_error", 415: "invalid_request_error",
          429: "rate_limit_error", 503: "service_unavailable_error", 504: "timeout_error"}  # fmt: skip


class APIError(Explained, ValueError):
    """A request that is not answered.

    Attributes:
        status: of the HTTP response.
        param: the part of the request that is at fault, such as "messages.0.content", or None.
        code: a word for programs.
        headers: of the HTTP response, beyond the usual ones.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """What the response holds."""
        kind = _KINDS.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> APIError:
    """A request that its client has to change."""
    return APIError(400, message, code, param)


def of_fields(error: ValidationError) -> APIError:
    """The first of the faults that pydantic found in a request. Nothing of the request's values is repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(_names(first["loc"]))
    if first["type"] == "extra_forbidden":
        return invalid(f"Unrecognized request argument supplied: {place}", place, "unknown_parameter")
    if first["type"] == "missing":
        return invalid(f"Missing required parameter: '{place}'.", place, "missing_required_parameter")
    return invalid(f"Invalid value for '{place}': {first['msg']}.", place or None)


def _names(place: tuple[str | int, ...]) -> list[str]:
    """A place without what pydantic alone knows: the kind of a part, which it puts behind the part's number."""
    kinds = {
        at + 2 for at, name in enumerate(place[:-1]) if name == "content" and isinstance(place[at + 1], int)
    }
    return [str(name) for at, name in enumerate(place) if at not in kinds]


def of_server(error: Exception) -> APIError:
    """What is told of a fault that is not the client's: its text alone where it explains itself."""
    message = str(error) if isinstance(error, Explained) else "the server failed; its log says how"
    return APIError(500, message, "server_error")
