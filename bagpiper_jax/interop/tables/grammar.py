"""Name tables: which of their tensors is which of our parameters, and how it is laid out. Both directions.

A table is rows of (theirs, ours, layout), in one grammar for all formats:

    [a|b]   in both names: one row for each alternative
    {i}     in both names: one row for each number that our parameters have there
    {l}     in their name alone: our parameter is stacked, and their tensors are its slices along the leading axis
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from bagpiper_jax.models.parameters import Shapes

Row = tuple[str, str, str]


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

# How a tensor of ours becomes torch's. SAME: it stays as it is. In most others torch has outputs first. Ours are for
# MATRIX one axis of inputs, then any number of outputs; for MERGE any number of inputs, then one axis of outputs; for
# IMAGE and CONV the kernel of a two- and a one-dimensional convolution, for UPSAMPLE that of a transposed one. For
# CHANNELS and KERNEL torch keeps axes of length 1 that ours lacks.
SAME, MATRIX, MERGE, IMAGE = "same", "matrix", "merge", "image"
CONV, UPSAMPLE, CHANNELS, KERNEL = "conv", "upsample", "channels", "kernel"

_TO_THEIRS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    SAME: lambda x: x,
    MATRIX: lambda x: transposed(x.reshape(x.shape[0], -1)),  # [in, heads, width] → [heads·width, in]
    MERGE: lambda x: transposed(x.reshape(-1, x.shape[-1])),  # [heads, width, out] → [out, heads·width]
    IMAGE: lambda x: x.transpose(3, 2, 1, 0),  # [time, mel, in, out] → [out, in, mel, time]
    CONV: lambda x: x.transpose(2, 1, 0),  # [kernel, in, out] → [out, in, kernel]
    UPSAMPLE: lambda x: x.transpose(0, 2, 1),  # [in, kernel, out] → [in, out, kernel]
    CHANNELS: lambda x: x[None, :, None],  # [C] → [1, C, 1]
    KERNEL: lambda x: x[None, None],  # [kernel] → [1, 1, kernel]
}
_TO_OURS: dict[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]] = {
    SAME: lambda x, shape: x,
    MATRIX: lambda x, shape: transposed(x).reshape(shape),
    MERGE: lambda x, shape: transposed(x).reshape(shape),
    IMAGE: lambda x, shape: x.transpose(3, 2, 1, 0),
    CONV: lambda x, shape: x.transpose(2, 1, 0),
    UPSAMPLE: lambda x, shape: x.transpose(0, 2, 1),
    CHANNELS: lambda x, shape: x.reshape(shape),
    KERNEL: lambda x, shape: x.reshape(shape),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of their tensors. Neither conversion changes the type; `SAME` changes nothing at all.

    Attributes:
        theirs, ours: names.
        index: the slice of ours along its leading axis; None for all of it.
        layout: how theirs lies in memory, compared with ours.
        shape: that of ours, or of our slice.
    """

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


def write_out(table: Sequence[Row], ours: Shapes) -> list[Entry]:
    """A table applied to a model of given parameter shapes: one entry for each of their tensors."""
    return [
        entry
        for row in table
        for alternative in _alternatives(row)
        for numbered in _numbered(alternative, ours)
        for entry in _slices(numbered, ours)
    ]


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


def _numbered(row: Row, ours: Shapes) -> Iterator[Row]:
    theirs, name, layout = row
    if "{" not in name:
        yield row
        return
    pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(name)))
    for parameter in ours:
        if found := pattern.fullmatch(parameter):
            numbered = theirs
            for letter, number in found.groupdict().items():
                numbered = numbered.replace("{" + letter + "}", number)
            yield numbered, parameter, layout


def _slices(row: Row, ours: Shapes) -> Iterator[Entry]:
    theirs, name, layout = row
    shape = tuple(ours[name])
    counter = re.search(r"\{\w+\}", theirs)
    if counter is None:
        yield Entry(theirs, name, None, layout, shape)
        return
    for index in range(shape[0]):
        yield Entry(theirs.replace(counter[0], str(index)), name, index, layout, shape[1:])


def their_shapes(entries: Iterable[Entry], ours: Shapes) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an export; nothing of the model's size is allocated."""
    nothing = np.zeros((), np.int8)
    return {e.theirs: e.to_theirs(part_of(e, np.broadcast_to(nothing, ours[e.ours]))).shape for e in entries}


def part_of(entry: Entry, parameter: np.ndarray) -> np.ndarray:
    """The slice of our parameter that is this tensor."""
    return parameter if entry.index is None else parameter[entry.index]


def to_theirs(
    entries: Iterable[Entry], parameters: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and tensor of an export, one at a time."""
    for entry in entries:
        part = part_of(entry, np.asarray(parameters[entry.ours]))
        yield entry.theirs, np.ascontiguousarray(entry.to_theirs(part))


def to_ours(entries: Iterable[Entry], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters of all their tensors, in memory."""
    parts: dict[str, dict[int | None, np.ndarray]] = {}
    for entry in entries:
        part = np.ascontiguousarray(entry.to_ours(np.asarray(tensors[entry.theirs])))
        parts.setdefault(entry.ours, {})[entry.index] = part
    return {
        name: found[None] if None in found else np.stack([found[i] for i in range(len(found))])
        for name, found in parts.items()
    }


def count(shapes: Shapes) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(shape) for shape in shapes.values())
