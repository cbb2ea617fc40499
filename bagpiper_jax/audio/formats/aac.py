"""AAC without a container (ADTS) and AMR: frames one behind the other, counted before ffmpeg decodes them."""

import functools
from collections.abc import Callable

from bagpiper_jax.audio.faults import Damage
from bagpiper_jax.audio.formats.tags import skipped, trimmed

_AMR = {
    b"#!AMR\n": {**dict(enumerate((12, 13, 15, 17, 19, 20, 26, 31, 5))), 15: 0},
    b"#!AMR-WB\n": {**dict(enumerate((17, 23, 32, 36, 40, 46, 50, 58, 60, 5))), 14: 0, 15: 0},
}
"""Bytes of a frame, beyond its first, by the kind that the first names."""


def frames(data: bytes, is_all: bool = True) -> int | None:
    """How many frames there are, or None if none begins the data.

    Args:
        is_all: the data is not the beginning of more.

    Raises:
        Damage: bytes that are no frame, or a frame that is cut.
    """
    for beginning, sizes in _AMR.items():
        if data.startswith(beginning):
            return _count(data, len(beginning), len(data), functools.partial(_amr_length, sizes), is_all)
    second = _adts_length(data[:7])
    if not second or (second < len(data) and not _adts_length(data[second : second + 7])):
        return None
    return _count(data, 0, trimmed(data), _adts_length, is_all)


def _count(data: bytes, place: int, end: int, length_of: Callable[[bytes], int], is_all: bool) -> int:
    count = 0
    while place < end:
        head = data[place : place + 7]
        length = length_of(head)
        if not length and (behind := skipped(data, place)) > place:
            place = behind
            continue
        if not length:
            raise Damage(f"the bytes from {place} on are no frame")
        if place + length > end and not is_all:
            break
        if place + length > end:
            raise Damage(f"its last frame has {end - place} of {length} bytes: it is cut")
        place, count = place + length, count + 1
    return count


def _amr_length(sizes: dict[int, int], head: bytes) -> int:
    return 0 if head[0] & 0x83 else 1 + sizes.get(head[0] >> 3 & 15, -1)


def _adts_length(head: bytes) -> int:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else 0
