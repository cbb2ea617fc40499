"""Who is let in: keys, room, and the size of what is sent."""

import asyncio
import contextlib
import hmac
import math
import time
from collections.abc import AsyncIterator, Iterator

from starlette.requests import ClientDisconnect, Request

from bagpiper_jax.serving.config import Limits
from bagpiper_jax.serving.faults import APIError

_MIB = 2**20
_SMOOTHING = 0.1
_LONGEST_WAIT = 60
"""Seconds that a client is told to wait at most; OpenAI's clients take longer ones for none."""


class Gate:
    """Lets requests in one by one.

    Attributes:
        limits: what clients may take.
        rows: requests that are answered at once.
        inside: requests that are inside now.
        is_draining: nobody is let in any more.
    """

    def __init__(self, limits: Limits, rows: int, key: str = ""):
        self.limits, self.rows = limits, rows
        self._key = key.encode()
        self.inside = 0
        self.is_draining = False
        self._usual_seconds = 1.0

    def check_key(self, request: Request) -> None:
        """Raises APIError: a key is asked for, and the request has another or none."""
        if not self._key:
            return
        # Header values are latin-1: the bytes as they came are compared.
        scheme, _, given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            raise APIError(
                401, "Incorrect API key provided.", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Keeps a place for a request. Raises APIError: there is none, or the server is going to end."""
        if self.is_draining:
            raise APIError(503, "the server is about to end", "shutting_down", headers={"Retry-After": "1"})
        if self.inside >= self.rows + self.limits.queue:
            turns = max(1, self.inside - self.rows + 1) / self.rows
            wait = min(_LONGEST_WAIT, max(1, math.ceil(turns * self._usual_seconds)))
            raise APIError(
                429,
                f"{self.inside} requests are being answered or wait; try again in {wait} s",
                "rate_limit_exceeded",
                headers={"Retry-After": str(wait)},
            )
        began = time.monotonic()
        self.inside += 1
        try:
            yield
            self._usual_seconds += _SMOOTHING * (time.monotonic() - began - self._usual_seconds)
        finally:
            self.inside -= 1

    async def body(self, request: Request) -> bytes:
        """What was sent. Raises APIError: it is no JSON by its type, too large, or comes too slowly."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # other types pass between sites without the browser asking
            raise APIError(415, "the Content-Type has to be application/json", "unsupported_media_type")
        most = int(self.limits.body * _MIB)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise _too_large(self.limits.body)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.upload):
                async for part in _stream(request):
                    size += len(part)
                    if size > most:
                        raise _too_large(self.limits.body)
                    parts.append(part)
        except TimeoutError:
            raise APIError(
                408, f"the request took more than {self.limits.upload:g} s to arrive", "request_timeout"
            ) from None
        return b"".join(parts)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    """The body without the wait for the next message that `Request.stream` ends with once the client has left."""
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise asyncio.CancelledError from None


def _too_large(mib: float) -> APIError:
    return APIError(413, f"the request has more than {mib:g} MiB", "request_too_large")
