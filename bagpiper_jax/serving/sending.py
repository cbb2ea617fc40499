"""Responses that go out in pieces, to clients that may leave or stop reading."""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any

from starlette.types import Receive, Send

EVENTS = "text/event-stream"


class Stalled(Exception):
    """A client that reads nothing."""


class Outgoing:
    """One response.

    Attributes:
        status: that went out, 0 before.
        sends_events: the body is a stream of events, which can end with an error.
        has_ended: all of it went out.
    """

    def __init__(self, send: Send, stall: float, headers: Mapping[str, str]):
        """Makes a response of which nothing has gone out.

        Args:
            send: ASGI's.
            stall: seconds for which a client may read nothing.
            headers: of whatever goes out.
        """
        self._send, self._stall, self._headers = send, stall, dict(headers)
        self.status = 0
        self.sends_events = self.has_ended = False

    async def begin(
        self, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """The status and the headers."""
        named = {**self._headers, "Content-Type": media_type, **(headers or {})}
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()]
        self.status, self.sends_events = status, media_type == EVENTS
        await self._put({"type": "http.response.start", "status": status, "headers": raw})

    async def begin_events(self) -> None:
        """The beginning of a stream of events, which proxies are not to hold back."""
        await self.begin(EVENTS, headers={"X-Accel-Buffering": "no"})

    async def add(self, data: bytes) -> None:
        """More of the body. Raises Stalled: the client reads nothing."""
        if data:
            await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def event(self, payload: Mapping[str, Any] | str) -> None:
        """A server-sent event."""
        text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        await self.add(f"data: {text}\n\n".encode())

    async def end(self) -> None:
        self.has_ended = True
        await self._put({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(
        self, data: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """All of a response."""
        await self.begin(media_type, status, {"Content-Length": str(len(data)), **(headers or {})})
        self.has_ended = True
        await self._put({"type": "http.response.body", "body": data, "more_body": False})

    async def json(
        self, payload: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """All of a response, of JSON."""
        await self.whole(
            json.dumps(payload, ensure_ascii=False).encode(), "application/json", status, headers
        )

    async def _put(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await self._send(message)
        except TimeoutError:
            raise Stalled from None


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Does the work, and cancels it when the client leaves. Returns whether it was done.

    The request must have been read: `receive` then tells of nothing but the end of the connection.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
