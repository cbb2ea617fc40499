"""Parameters on their way to the disk, in parts: read ahead, written behind, noted in a journal."""

import collections
import contextlib
import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.fillings import Fillings
from bagpiper_jax.interop.formats import orbax_store
from bagpiper_jax.interop.formats.orbax_store import Stored
from bagpiper_jax.interop.prefetching import prefetched
from bagpiper_jax.interop.progress import ByteProgress
from bagpiper_jax.interop.written_parts import WrittenParts, checksum
from bagpiper_jax.models.parameters import Shapes
from bagpiper_jax.parallel import MeshConfig

logger = logging.getLogger(__name__)


def write_parameters(
    directory: Path, shapes: Shapes, parameters: Fillings, mesh: MeshConfig, journal: WrittenParts
) -> None:
    """Writes parameters as Orbax stores them, part by part; those that the journal knows are kept.

    Args:
        directory: to make, or begun by an earlier attempt.
        shapes: of the parameters.
        parameters: what they are filled with.
        mesh: the devices that they are cut for.
        journal: of what is written.

    Raises:
        InterchangeError: the disk is full or fails.
    """
    dtypes = {name: filling.dtype for name, filling in parameters.items()}
    if not journal.resumed:
        orbax_store.create(directory, shapes, dtypes, orbax_store.chunk_shapes(shapes, mesh, dtypes))
        journal.begin()
    stored = orbax_store.open_parameters(directory, shapes, write=True)
    parts = [
        _Part(name, start, stop, (stop - start) * math.prod(shapes[name][1:]) * dtypes[name].itemsize)
        for name, parameter in stored.items()
        for start, stop in parameter.bands(None if parameters[name].divisible else parameter.shape[0])
    ]

    def missing(part: _Part) -> tuple[_Part, np.ndarray | None, int]:
        name, start, stop, _ = part
        if _kept(journal, stored[name], part):
            return part, None, 0
        values = np.ascontiguousarray(parameters[name].read(start, stop), dtypes[name])
        return part, values, checksum(values)

    with (
        _Writes(journal) as writes,
        ByteProgress(total_bytes(shapes, dtypes), directory.parent.stem) as progress,
    ):
        for part, values, crc in prefetched(missing, parts, lambda part: part.bytes):
            if values is not None:
                writes.add(stored[part.name], part, values, crc)
            progress.add(part.bytes)
        writes.settle(0)


class _Part(NamedTuple):
    """Rows [start, stop) of a parameter, and how many bytes they are."""

    name: str
    start: int
    stop: int
    bytes: int


class _Writes:
    """Writes under way. They go on while the next parts are read, small ones together, 32 MiB of them at most."""

    def __init__(self, journal: WrittenParts):
        self._journal = journal
        self._pending: collections.deque = collections.deque()

    def add(self, stored: Stored, part: _Part, values: np.ndarray, crc: int) -> None:
        self.settle(orbax_store.PART_BYTES - part.bytes)
        self._pending.append((stored.write(part.start, part.stop, values), part, crc))

    def __enter__(self) -> "_Writes":
        return self

    def __exit__(self, *_) -> None:
        """After a fault no write goes on behind the caller's back; what ends well here is written again later."""
        for written, _, _ in self._pending:
            with contextlib.suppress(ValueError):
                written.result()

    def settle(self, limit: int) -> None:
        """Waits until at most `limit` bytes are under way, and notes in the journal what is written."""
        while self._pending and sum(part.bytes for _, part, _ in self._pending) > max(limit, 0):
            written, part, crc = self._pending.popleft()
            try:
                written.result()
            except ValueError as error:  # TensorStore's word for a full or failing disk
                raise InterchangeError(
                    f"cannot write {part.name}: {error}. Free space, then the same command continues"
                ) from error
            self._journal.done(part.name, part.start, part.stop, crc)


def _kept(journal: WrittenParts, stored: Stored, part: _Part) -> bool:
    """Whether a part is on disk as an earlier attempt wrote it."""
    name, start, stop, _ = part
    expected = journal.checksum_of(name, start, stop)
    if expected is None:
        return False
    try:
        intact = checksum(stored.read(start, stop)) == expected
    except ValueError as error:  # TensorStore's word for a piece that is missing or torn
        intact = False
        logger.warning("%s: %s", name, error)
    if not intact:
        logger.warning("%s [%d:%d] is not on disk as it was written; writing it again", name, start, stop)
    return intact


def total_bytes(shapes: Shapes, dtypes: dict[str, np.dtype]) -> int:
    """Of parameters of these shapes and types."""
    return sum(math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items())
