"""What comes back from an endpoint: an answer, or the reason why there is none."""

import datetime
import email.utils
import json
from collections.abc import Mapping

_MAX_ANSWER_BYTES = 4 << 20
_STORED = 1 << 16
"""Bytes of a useless response that the journal keeps."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FATAL = {
    "status_401": "the key is not accepted",
    "status_403": "the key may not do this",
    "status_404": "no such path or model",
}
"""Failures that every other request would share."""


class Failure(Exception):
    """An attempt without an answer: reason, tokens it may have cost, seconds to wait if told."""

    def __init__(
        self, reason: str, detail: str, tokens: int = 0, wait: float | None = None, again: bool = True
    ):
        super().__init__(reason)
        self.reason, self.detail, self.tokens, self.wait, self.again = reason, detail, tokens, wait, again

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail[:300]}"


async def content_of(response, most: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            raise Failure("too_long", f"the answer exceeds {_MAX_ANSWER_BYTES} bytes", most)
    return bytes(content)


def checked(status: int, headers: Mapping, content: bytes, most: int) -> dict:
    """The answer of a whole response. Raises Failure."""
    if status != 200:
        detail = content[:_STORED].decode("utf-8", "replace")
        wait = _retry_after(headers.get("Retry-After"))
        raise Failure(f"status_{status}", detail, wait=wait, again=status in _AGAIN)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        detail = content[:_STORED].decode("utf-8", "replace")
        raise Failure("broken_json", f"{error}: {detail}", most) from error
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise Failure("no_choices", json.dumps(answer)[:_STORED], tokens_of(answer, most)) from error
    if not isinstance(text, str) or not text.strip():
        raise Failure("empty_answer", json.dumps(answer)[:_STORED], tokens_of(answer, most))
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Failure("broken_text", json.dumps(answer)[:_STORED], tokens_of(answer, most))
    return answer


def tokens_of(answer: object, otherwise: int) -> int:
    """What the answer says it cost."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total >= 0 else otherwise


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
        return max((until - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
