"""JSON documents that mean the same to every reader, and characters that no text should have."""

import collections
import json
import math
import re
import typing

_UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes | str) -> typing.Any:
    """Reads a JSON document and refuses what `json` would let through changed or unusable.

    Raises:
        ValueError: no JSON or no UTF-8; a name that stands twice in an object, of which `json` keeps the last; NaN,
            infinities and numbers that overflow to them; half of a surrogate pair, which no UTF-8 can write; nesting
            beyond what can be read.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _ESCAPED_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError is a ValueError
    return value


def _once(pairs: list[tuple[str, typing.Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, count in times.items() if count > 1)
        raise ValueError(f"the name {twice!r} stands twice")
    return found


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits} is too large")
    return value


def unusable(text: str) -> str | None:
    """The first character that no tokenizer should see, a control character or half a surrogate pair, as "U+0000"."""
    found = _UNUSABLE.search(text)
    return f"U+{ord(found[0]):04X}" if found else None
