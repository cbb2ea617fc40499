"""Reads TensorFlow's checkpoints (tensor bundles) without TensorFlow.

The index is a table as LevelDB's: blocks of keys that share beginnings with those before them, whose values are
protobuf messages, and a footer that says where the block of blocks lies. The data file holds the tensors' bytes, one
after another. Format: tensorflow/core/util/tensor_bundle/tensor_bundle.proto and LevelDB's doc/table_format.md.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_FOOTER, _MAGIC = 48, 0xDB4775248B80FB57
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
"""Of types.proto, those that weights and counters have."""


class CheckpointError(ValueError):
    """Files that are no checkpoint of this kind."""


def read(prefix: str) -> dict[str, np.ndarray]:
    """Name → tensor of the files `<prefix>.index` and `<prefix>.data-00000-of-00001`.

    Raises:
        CheckpointError: they are not what a checkpoint has.
        OSError: they cannot be read.
    """
    index, data = Path(f"{prefix}.index").read_bytes(), Path(f"{prefix}.data-00000-of-00001").read_bytes()
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise CheckpointError(f"{prefix}.index is no index of a checkpoint")
    try:
        _, place = _handle(index, len(index) - _FOOTER)
        found = {}
        for _, handle in _entries(index, *_handle(index, place)[0]):
            for name, value in _entries(index, *_handle(handle, 0)[0]):
                if name:  # the first entry describes the whole
                    found[name.decode()] = _tensor(value, data)
        return found
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise CheckpointError(f"{prefix}: {error!r}") from error


def _entries(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry of a block."""
    if table[start + size]:
        raise CheckpointError("blocks are compressed")
    block, place, key = table[start : start + size], 0, b""
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    while place < end:
        (shared, place), (own, place), (length, place) = _three(block, place)
        key = key[:shared] + block[place : place + own]
        yield key, block[place + own : place + own + length]
        place += own + length


def _three(block: bytes, place: int) -> Iterator[tuple[int, int]]:
    for _ in range(3):
        number, place = _varint(block, place)
        yield number, place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the least first, and where it ends."""
    number = shift = 0
    while True:
        byte = data[place]
        number, shift, place = number | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return number, place


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """(start, size) of a block, and where the handle ends."""
    start, place = _varint(data, place)
    size, place = _varint(data, place)
    return (start, size), place


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag & 7 == 0:
            value, place = _varint(message, place)
        else:
            size, place = _varint(message, place) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], place)
            value, place = message[place : place + size], place + size
        yield tag >> 3, value


def _tensor(entry: bytes, data: bytes) -> np.ndarray:
    """The tensor of a BundleEntryProto: type, shape, shard, offset, size."""
    fields = dict(_fields(entry))
    shape = [dict(_fields(value)).get(1, 0) for number, value in _fields(fields.get(2, b"")) if number == 2]
    start, size = fields.get(4, 0), fields.get(5, 0)
    if fields.get(3, 0) or start + size > len(data):
        raise CheckpointError("a tensor lies outside the data file")
    return np.frombuffer(data[start : start + size], _TYPES[fields[1]]).reshape(shape)
