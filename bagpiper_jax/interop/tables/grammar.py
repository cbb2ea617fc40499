"""Name tables: which of their tensors is which of our parameters, and how it is laid out. Both directions.

A table is rows of (theirs, ours, layout). `{l}` in their name counts the layers whose parameters we stack: their
L tensors are the L slices of ours. `[a|b]` in both names stands for one row per alternative.
"""

import dataclasses
import itertools
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from bagpiper_jax.errors import Explained

Shapes = Mapping[str, tuple[int, ...]]
Row = tuple[str, str, str]


class InterchangeError(Explained, ValueError):
    """Something that cannot be imported or exported: tensors that are missing, unknown or misshapen, each by name; a
    file that is broken or of another kind; no room. The message names file and entry."""


def shown(value: object) -> str:
    """What a file holds, as a message may quote it: JSON's or Python's form, cut, on one line."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200:
        return value
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class Entry(Protocol):
    """One of their tensors: its name, our parameter, the slice of ours (None for all of it), both conversions.

    Neither conversion changes the type; `SAME` changes nothing at all.
    """

    theirs: str
    ours: str
    index: int | None
    layout: str

    def to_ours(self, tensor: np.ndarray) -> np.ndarray: ...

    def to_theirs(self, part: np.ndarray) -> np.ndarray: ...


def transposed(x: np.ndarray) -> np.ndarray:
    """`x.T`, copied by stripes: eight times faster than numpy's copy of a large one, whose reads miss the cache.

    What is not contiguous, such as an array that only has a shape, is not copied.
    """
    if not x.flags.c_contiguous:
        return x.T
    result = np.empty(x.shape[::-1], x.dtype)
    for start in range(0, len(x), _STRIPE):
        result[:, start : start + _STRIPE] = x[start : start + _STRIPE].T
    return result


_STRIPE = 128

# How a tensor of ours becomes torch's. SAME: it stays as it is. In the others torch has outputs first. Ours are for
# MATRIX one axis of inputs, then any number of outputs; for MERGE any number of inputs, then one axis of outputs; and
# for IMAGE the kernel of a two-dimensional convolution.
SAME, MATRIX, MERGE, IMAGE = "same", "matrix", "merge", "image"

_TO_THEIRS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    SAME: lambda x: x,
    MATRIX: lambda x: transposed(x.reshape(x.shape[0], -1)),  # [in, heads, width] → [heads·width, in]
    MERGE: lambda x: transposed(x.reshape(-1, x.shape[-1])),  # [heads, width, out] → [out, heads·width]
    IMAGE: lambda x: x.transpose(3, 2, 1, 0),  # [time, mel, in, out] → [out, in, mel, time]
}
_TO_OURS: dict[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]] = {
    SAME: lambda x, shape: x,
    MATRIX: lambda x, shape: transposed(x).reshape(shape),
    MERGE: lambda x, shape: transposed(x).reshape(shape),
    IMAGE: lambda x, shape: x.transpose(3, 2, 1, 0),
}


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """An `Entry` of a row; `shape` is that of our slice."""

    theirs: str
    ours: str
    index: int | None
    layout: str
    shape: tuple[int, ...]

    def to_ours(self, tensor: np.ndarray) -> np.ndarray:
        return _TO_OURS[self.layout](tensor, self.shape)

    def to_theirs(self, part: np.ndarray) -> np.ndarray:
        return _TO_THEIRS[self.layout](part)


def prefixed(entries: Iterable[Entry], theirs: str, ours: str = "") -> list[Entry]:
    """The entries with a prefix to their and to our name."""
    return [dataclasses.replace(e, theirs=theirs + e.theirs, ours=ours + e.ours) for e in entries]


def write_out(table: Sequence[Row], ours: Shapes) -> list[TableEntry]:
    """A table applied to a model of given parameter shapes: one entry for each of their tensors."""
    return [entry for row in table for one in _alternatives(row) for entry in _layers(one, ours)]


def _alternatives(row: Row) -> Iterator[Row]:
    theirs, ours, layout = row
    choices = [[c.split("|") for c in re.findall(r"\[(.*?)\]", name)] for name in (theirs, ours)]
    for pick in itertools.product(*(range(len(c)) for c in choices[0])):
        names = []
        for name, options in zip((theirs, ours), choices, strict=True):
            for option, chosen in zip(options, pick, strict=True):
                name = re.sub(r"\[.*?\]", option[chosen], name, count=1)
            names.append(name)
        yield (*names, layout)


def _layers(row: Row, ours: Shapes) -> Iterator[TableEntry]:
    theirs, name, layout = row
    shape = tuple(ours[name])
    if "{l}" not in theirs:
        yield TableEntry(theirs, name, None, layout, shape)
        return
    for index in range(shape[0]):
        yield TableEntry(theirs.replace("{l}", str(index)), name, index, layout, shape[1:])


def their_shapes(entries: Iterable[Entry], ours: Shapes) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an export; nothing of the model's size is allocated."""
    nothing = np.zeros((), np.int8)
    return {e.theirs: e.to_theirs(part_of(e, np.broadcast_to(nothing, ours[e.ours]))).shape for e in entries}


def part_of(entry: Entry, parameter: np.ndarray) -> np.ndarray:
    """The slice of our parameter that is this tensor."""
    return parameter if entry.index is None else parameter[entry.index]


def check(expected: Shapes, found: Shapes, where: str) -> None:
    """Raises InterchangeError that names every missing, unknown and misshapen tensor."""
    faults = [f"missing {name} {list(expected[name])}" for name in sorted(expected.keys() - found.keys())]
    faults += [
        f"unknown {shown(name)} {list(found[name])}" for name in sorted(found.keys() - expected.keys())
    ]
    faults += [
        f"{name} is {list(found[name])}, should be {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(expected[name]) != tuple(found[name])
    ]
    if faults:
        hint = _hint(expected, found)
        raise InterchangeError(
            f"{where} does not fit this model, {len(faults)} faults{hint}:\n  " + "\n  ".join(faults)
        )


def _hint(expected: Shapes, found: Shapes) -> str:
    """A prefix that all names carry, as wrappers of torch modules add them, is worth telling."""
    for name in expected:
        for other in found:
            prefix = other.removesuffix(name)
            if prefix and prefix != other and all(n.startswith(prefix) for n in found):
                return f" (every name begins with the unknown prefix {prefix!r}; remove it)"
        break
    return ""


def to_theirs(
    entries: Iterable[Entry], parameters: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and tensor of an export, one at a time."""
    for entry in entries:
        part = part_of(entry, np.asarray(parameters[entry.ours]))
        yield entry.theirs, np.ascontiguousarray(entry.to_theirs(part))


def count(shapes: Shapes) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(shape) for shape in shapes.values())
