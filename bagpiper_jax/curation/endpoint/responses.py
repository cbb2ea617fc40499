"""What comes back from an endpoint: an answer, or the reason why there is none."""

import base64
import datetime
import email.utils
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.curation.endpoint.failures import Declined, Failure, codes_of

_MAX_ANSWER_BYTES = 4 << 20
_MAX_SOUND_BYTES = 64 << 20
"""Of an answer that holds a sound."""
_STORED = 1 << 16
"""Characters of a useless response that the journal keeps."""
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_OUT_OF_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes that OpenAI sends with status 429, and that no waiting mends."""
_FILTERED = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "safety",
                       "recitation", "prohibited_content", "blocklist", "sensitive"})  # fmt: skip
"""Names of error codes and of `finish_reason`s for what an endpoint will not say about this one clip."""
_WHOLE = frozenset({"stop", "stop_sequence", "eos", "eos_token", "end_turn", "complete", "completed"})
_CUT = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_BROKE_OFF = frozenset({"abort", "aborted", "cancelled", "error", "network_error"})
"""`finish_reason`s of a server that failed while it answered."""


async def content_of(response, most: int, sounds: bool = False) -> bytes:
    """The body of an aiohttp response. Raises Failure `too_long`, which may have cost `most` tokens."""
    content, longest = bytearray(), _MAX_SOUND_BYTES if sounds else _MAX_ANSWER_BYTES
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > longest:
            raise Failure("too_long", f"the answer exceeds {longest} bytes", most)
    return bytes(content)


def checked(
    status: int,
    headers: Mapping,
    content: bytes,
    most: int,
    redact: Callable[[str], str] = str,
    sounds: bool = False,
) -> dict:
    """What makes the answer in a response: text, refusal, finish_reason and tokens. Nothing else of it is kept.

    Args:
        status, headers, content: the response.
        most: the most tokens that the request may have cost.
        redact: takes out of a useless response what must not be stored. The text of an answer stays as it is.
        sounds: whether a sound is kept as well, for `keep_sound`; a sound without text is an answer then.

    Raises:
        Failure: the response is no answer; Declined, if it is one without use.
    """

    def failure(reason: str, detail: str, tokens: int = 0, **how) -> Failure:
        return Failure(reason, redact(detail)[:_STORED], tokens, **how)  # a key cut in two would not be found

    body = content.decode("utf-8", "replace")
    if status != 200:
        codes = codes_of(body)
        if codes & _FILTERED:
            raise Declined("content_filter", redact(body)[:_STORED], _essence("", "content_filter", None, 0))
        again = status in _TRY_AGAIN and not codes & _OUT_OF_CREDIT
        place = f" (Location: {headers['Location']})" if "Location" in headers else ""
        wait = _retry_after(headers.get("Retry-After")) if again else None
        raise failure(f"status_{status}", body + place, wait=wait, again=again)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise failure("broken_json", f"{error}: {body}", most) from error
    tokens = tokens_of(answer, most)
    try:
        essence = _essence(*_read(answer), tokens)
        sound = _sound(answer) if sounds else None
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise failure("no_choices", body, tokens) from error
    text, finish = essence["choices"][0]["message"]["content"], finish_of(essence)
    if finish in _BROKE_OFF:
        raise failure("broken_off", body, tokens)
    try:
        json.dumps(essence, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise failure("broken_text", body, tokens) from error
    if sound is not None:
        essence["choices"][0]["message"] |= {
            "content": text or sound.get("transcript") or "",
            "sound": sound["data"],
        }
        return essence
    require_told(essence)
    if not text.strip():
        raise failure("empty_answer", body, tokens)
    return essence


def _sound(answer: dict) -> dict | None:
    """The sound of an answer, base64 with its transcript. Raises what reading a wrongly built answer raises."""
    sound = answer["choices"][0]["message"].get("audio")
    if sound is None:
        return None
    if not isinstance(sound["data"], str) or not isinstance(sound.get("transcript") or "", str):
        raise TypeError("the sound is no text of base64")
    return sound if sound["data"] else None


def keep_sound(answer: dict, path: Path) -> None:
    """Moves the sound out of an answer into a file, so that the journal has the file's name alone.

    Raises:
        Failure: `broken_sound`: it is no base64.
        WriteError: the disk refuses.
    """
    message = answer["choices"][0]["message"]
    if "sound" not in message:
        return
    try:
        data = base64.b64decode(message["sound"], validate=True)
    except ValueError as error:
        raise Failure("broken_sound", f"{error}: {message['sound'][:80]!r}", tokens_of(answer, 0)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, data)
    message["sound"] = path.name


def _read(answer: dict) -> tuple[str, str | None, str | None]:
    """Text, finish_reason and refusal. Raises what reading a wrongly built answer raises."""
    choice = answer["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):  # in parts, of which reasoning is another kind than text
        content = "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    if content is not None and not isinstance(content, str):
        raise TypeError("content is no text")
    return (
        content or "",
        finish if isinstance(finish, str) else None,
        refusal if isinstance(refusal, str) and refusal.strip() else None,
    )


def _essence(text: str, finish: str | None, refusal: str | None, tokens: int) -> dict:
    message = {"content": text, **({"refusal": refusal} if refusal else {})}
    return {
        "choices": [{"message": message, "finish_reason": finish}],
        "usage": {"total_tokens": tokens},
    }


def finish_of(answer: dict) -> str | None:
    """Why an answer ends where it does, in lower case, if the endpoint told."""
    finish = answer["choices"][0].get("finish_reason")
    return finish.lower() if isinstance(finish, str) and finish else None


def is_cut(answer: dict) -> bool:
    """Whether the length limit ended the answer."""
    return finish_of(answer) in _CUT


def require_told(answer: dict) -> None:
    """Raises Declined, `content_filter`, `refusal`, `only_reasoning` or `not_text`, where an answer tells nothing."""
    message, finish = answer["choices"][0]["message"], finish_of(answer)
    if finish in _FILTERED:
        raise Declined("content_filter", f"finish_reason is {finish!r}", answer)
    if message.get("refusal"):
        raise Declined("refusal", message["refusal"], answer)
    if finish in _CUT and "sound" not in message and not (message["content"] or "").strip():
        raise Declined("only_reasoning", "the token limit ended the answer before its text began", answer)
    if finish and finish not in _WHOLE | _CUT:
        raise Declined("not_text", f"finish_reason is {finish[:80]!r}", answer)


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
