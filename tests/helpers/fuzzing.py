"""Seeded damage for bytes, JSON values and arrays: a case is a function of (target, number), so failures repeat."""

import collections
import dataclasses
import json
import math

import numpy as np

STRANGE = (
    None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, 10**400, math.nan, math.inf, -math.inf, "1e999", "NaN",
    "", " ", "\x00", "\x1b[2J", "\ud800", "e\u0301", "\u202ereversed", "\u200b", "../../etc/passwd", "null",
    "9" * 5000, "\U0001f9ff" * 300, [], [[]], [None], ["user", "audio"], [["user", "text", ""]],
    {}, {"": {}}, {"__class__": "x"},
)  # fmt: skip


@dataclasses.dataclass
class Tally:
    """Outcomes of a target's cases; each case ends as one of them or fails the test."""

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def check(self, cases: int) -> None:
        assert self.counts.total() == cases, self.counts
        assert self.counts["kept"] and self.counts.total() > self.counts["kept"], "the damage is one-sided"


def generator(target: str, number: int) -> np.random.Generator:
    return np.random.default_rng([*target.encode(), number])


def pick(rng, options):
    """`rng.choice` without numpy's conversions."""
    return options[int(rng.integers(len(options)))]


def damage(data: bytes, rng) -> bytes:
    """One to four faults: flipped bits, a cut, lost, doubled or foreign bytes."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(data))) if data else 0
        length = int(rng.integers(1, 9))
        match int(rng.integers(8)):
            case 0 | 1 | 2 | 3 if data:
                data[place] ^= 1 << int(rng.integers(8))
            case 4:
                del data[place:]
            case 5:
                del data[place : place + length]
            case 6:
                data[place:place] = data[place : place + length]
            case _:
                data[place:place] = rng.bytes(length)
    return bytes(data)


def places(value, path=()):
    """Paths of all values within a JSON value, itself included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def disturb(value, rng):
    """A copy of a JSON value with one to three values replaced, dropped, doubled, renamed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(int(rng.integers(1, 4))):
        value = _disturb_once(value, rng)
    return value


def _disturb_once(value, rng):
    found = [path for path in places(value) if path]
    if not found:
        return pick(rng, STRANGE)
    *parents, key = pick(rng, found)
    holder = value
    for parent in parents:
        holder = holder[parent]
    kind = int(rng.integers(7))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict):
        holder[pick(rng, ["", "id", "Audio", "start ", "\u0131d"])] = pick(rng, STRANGE)
    elif kind == 2:
        holder.insert(key, holder[key])
    elif kind == 3 and isinstance(holder[key], str) and holder[key]:
        place = int(rng.integers(len(holder[key]) + 1))
        holder[key] = holder[key][:place] + str(pick(rng, STRANGE)) + holder[key][place:]
    elif kind == 4 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * pick(rng, [-1, 1e9, 1e308, 0]) + pick(rng, [0, 1, -1])
    else:
        holder[key] = pick(rng, STRANGE)
    return value


def line(value, rng) -> bytes:
    """A JSON line of a value, in half of the cases with damaged bytes, some with a name given twice."""
    text = json.dumps(value, ensure_ascii=bool(rng.integers(2)))
    if isinstance(value, dict) and value and rng.integers(8) == 0:
        name = pick(rng, sorted(value))
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(pick(rng, STRANGE))}}}"
    data = text.encode("utf-8", errors="surrogatepass")
    return (damage(data, rng) if rng.integers(2) else data).replace(b"\n", b" ")


class NotStrict(ValueError):
    """No value that JSON and UTF-8 give one meaning."""


def strict(data: bytes):
    """What a line says, if it says one thing. The oracle: its rules are the standards', not the readers'."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotStrict(str(error)) from error


def _once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def is_sound(value) -> bool:
    """No number without a value, and no text that cannot be written as UTF-8."""
    if isinstance(value, str):
        return not any(0xD800 <= ord(c) < 0xE000 for c in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(is_sound(k) and is_sound(v) for k, v in value.items())
    return all(map(is_sound, value)) if isinstance(value, list | tuple) else True


def same(one, two) -> bool:
    """Equality that tells True from 1 and 1 from 1.0, as JSON does."""
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def array(given: np.ndarray, rng) -> np.ndarray:
    """An array with one fault: type, shape, range or values."""
    values = np.array(given)
    match int(rng.integers(9)):
        case 0:
            return values.astype(np.float64) + pick(rng, [0.0, 0.25, math.nan, math.inf])
        case 1:
            return values.astype(np.int64) + pick(rng, [2**32, -(2**32), 2**16, 1, -1])
        case 2:
            return values.reshape(-1)[: int(rng.integers(values.size + 1))]
        case 3:
            return values[:0]
        case 4:
            return np.concatenate([values, values])
        case 5:
            return values[..., None]
        case 6:
            return values.astype(str)
        case 7:
            return values.astype(bool)
    flat = values.astype(np.int64).reshape(-1)
    if flat.size:
        flat[int(rng.integers(flat.size))] = pick(
            rng, [-1, 255, 256, 1024, 2**31 - 1, 2**31, 2**33, -(2**31)]
        )
    return flat.reshape(values.shape)
