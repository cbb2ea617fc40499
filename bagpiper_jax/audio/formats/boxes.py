"""MP4, Matroska, AVI, ASF and MPEG-TS: whether a file goes on as far as it says. ffmpeg plays what is there."""

from typing import BinaryIO

from bagpiper_jax.audio.faults import Damage

_MOST_BOXES = 10_000
_LEFT_OPEN = 0x7F00_0000  # what a program that cannot return to the header leaves there, at least
_ASF = bytes.fromhex("3026b2758e66cf11")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def require_whole(stream: BinaryIO, size: int) -> bool | None:
    """None if it is no such file of `size` bytes; else whether its header was finished, and so tells its length.

    Raises:
        Damage: some of its bytes are missing, or another file follows in it.
    """
    stream.seek(0)
    head = stream.read(1 << 16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _require_boxes(stream, size)
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        _require_elements(stream, size)
    elif head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        _require(8 + stated, size)
        return 0 < stated < _LEFT_OPEN
    elif head[:8] == _ASF and (place := head.find(_ASF_FILE)) > 0:
        stated = int.from_bytes(head[place + 40 : place + 48], "little")
        _require(stated, size)
        stream.seek(stated)
        if stated and stream.read(8) == _ASF:
            raise Damage(f"another file begins at byte {stated}")
        return head[place + 88] & 1 == 0  # else it is a broadcast
    elif head[:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G":
        _require(size + -size % 188, size)
        return False
    else:
        return None
    return True


def _require(stated: int, size: int) -> None:
    if size < stated < _LEFT_OPEN:
        raise Damage(f"it should have {stated} bytes and has {size}: it is cut")


def _require_boxes(stream: BinaryIO, size: int) -> None:
    place = 0
    for _ in range(_MOST_BOXES):
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 8 or not head[4:8].isascii() or not head[4:8].decode().isprintable():
            return  # odd bytes behind the last box
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # the last box, to the end of the file
            return
        if place and head[4:8] == b"ftyp":
            raise Damage(f"another file begins at byte {place}")
        if place + length > size:
            name = head[4:8].decode()
            raise Damage(f"its box {name} ends at byte {place + length}, the file at {size}: it is cut")
        place += max(8, length)


def _require_elements(stream: BinaryIO, size: int) -> None:
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(12)
        name = head[: _width(head)]
        width = _width(head[len(name) :]) if name else 0
        if not width or len(head) < len(name) + width:
            return
        number = int.from_bytes(head[len(name) : len(name) + width], "big") - (1 << 7 * width)
        if number == (1 << 7 * width) - 1:  # not known, as in a live stream
            return
        begin, place = place, place + len(name) + width + number
        if begin and name == b"\x1a\x45\xdf\xa3":
            raise Damage(f"another file begins at byte {begin}")
        if place > size:
            raise Damage(f"an element at byte {begin} ends at byte {place}, the file at {size}: it is cut")


def _width(data: bytes) -> int:
    """Bytes of a number whose first bit that is set tells how many they are; 0 where that is none."""
    return 9 - data[0].bit_length() if data and data[0] else 0
