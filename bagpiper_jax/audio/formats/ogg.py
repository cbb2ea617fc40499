"""Ogg: pages with checksums and numbers, in streams that have a first and a last page.

libogg leaves out pages that are damaged, and both decoders take what is there of a stream whose end is missing.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator

from bagpiper_jax.audio.faults import Damage

_HEADER = struct.Struct("<4sBBqIIIB")
_FIRST, _LAST = 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True)
class _Page:
    begin: int
    end: int
    flags: int
    serial: int
    number: int


def links(data: bytes) -> list[bytes]:
    """The Ogg files that follow each other in one ("chained"), each whole.

    Raises:
        Damage: a page is damaged, missing or cut, or the last page of a stream is not there.
    """
    found, begin, streams, ended = [], 0, {}, set()
    for page in _pages(data):
        if page.flags & _FIRST:
            if streams and len(ended) == len(streams):
                found.append(data[begin : page.begin])
                begin, streams, ended = page.begin, {}, set()
            streams[page.serial] = page.number - 1
        if page.serial not in streams or page.serial in ended:
            raise Damage(f"the page at byte {page.begin} belongs to no stream")
        if page.number != (streams[page.serial] + 1) & 0xFFFF_FFFF:
            raise Damage(f"pages are missing before byte {page.begin}")
        streams[page.serial] = page.number
        if page.flags & _LAST:
            ended.add(page.serial)
    if not streams or len(ended) < len(streams):
        raise Damage("no page ends its stream: it is cut")
    return [*found, data[begin:]]


def _pages(data: bytes) -> Iterator[_Page]:
    place, turned = 0, memoryview(data.translate(_REVERSED))
    while data[place : place + 4] == b"OggS":
        if place + _HEADER.size > len(data):
            raise Damage(f"the page at byte {place} is cut")
        _, _, flags, _, serial, number, checksum, segments = _HEADER.unpack_from(data, place)
        body = place + _HEADER.size + segments
        end = body + sum(data[place + _HEADER.size : body])
        if end > len(data) or body > len(data):
            raise Damage(f"the page at byte {place} is cut")
        if _checksum(turned[place : place + 22], bytes(4), turned[place + 26 : end]) != checksum:
            raise Damage(f"the page at byte {place} does not have its checksum")
        yield _Page(place, end, flags, serial, number)
        place = end
    if data.find(b"OggS", place) >= 0 or not place:
        raise Damage(f"the bytes from {place} on are no page")


def _checksum(*turned: bytes | memoryview) -> int:
    """Ogg's CRC-32 is that of zip files with the bits of every byte, and of the result, in the other order."""
    crc = 0xFFFF_FFFF
    for part in turned:
        crc = zlib.crc32(part, crc)
    return int(f"{crc ^ 0xFFFF_FFFF:032b}"[::-1], 2)
