"""Containers made of chunks that state their sizes: where the sound lies, and whether all of it is there.

WAV, RF64, W64, AIFF, 8SVX, CAF, AU, NIST and VOC. libsndfile and ffmpeg take what a file holds where its header tells
of more.
"""

import dataclasses
import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from bagpiper_jax.audio.faults import Damage

_BEGINNINGS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"BW64",
    b"riff",
    b"FORM",
    b"caff",
    b".snd",
    b"NIST",
    b"fLaC",
    b"OggS",
)
_MOST_CHUNKS = 1000

# A program that writes to a pipe cannot return to the header. It leaves 0 there, or a size at the end of the range.
_LEFT_OPEN = {"I": 0x7F00_0000, "q": 1 << 62, "Q": 1 << 62}


@dataclasses.dataclass(frozen=True)
class SoundChunk:
    """The bytes that hold the sound.

    Attributes:
        begin: the byte at which they begin.
        size: how many there are.
        correction: where the header leaves the size open, the place of that number and what should stand there.
        end: the byte that no decoder may go beyond, or None.
        codec: the format tag of a WAV or W64, else 0.
    """

    begin: int
    size: int
    correction: tuple[int, bytes] | None = None
    end: int | None = None
    codec: int = 0


class Corrected(io.RawIOBase):
    """A file as it would be with the chunk's `correction` and without what stands behind its `end`."""

    def __init__(self, stream: BinaryIO, chunk: SoundChunk):
        self._stream, (self._place, self._correction) = stream, chunk.correction or (0, b"")
        size = stream.seek(0, io.SEEK_END)
        self._end = size if chunk.end is None else min(chunk.end, size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._stream.seek(self._end + offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        begin = self._stream.tell()
        left = max(0, self._end - begin)
        data = self._stream.read(left if size is None or size < 0 else min(size, left))
        shift = self._place - begin
        low, high = max(0, shift), min(len(data), shift + len(self._correction))
        if low >= high:
            return data
        return data[:low] + self._correction[low - shift : high - shift] + data[high:]

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _File:
    """A file to take numbers from, of big or little (`order`) endian."""

    def __init__(self, stream: BinaryIO, size: int, order: str):
        self._stream, self.size, self.order = stream, size, order

    def take(self, place: int, form: str) -> tuple:
        """Raises Damage: the file ends before."""
        form = self.order + form
        self._stream.seek(place)
        data = self._stream.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise Damage(f"it ends within its header, at byte {self.size}")
        return struct.unpack(form, data)

    def chunks(self, begin: int, form: str = "4sI", overhead: int = 0, step: int = 2) -> Iterator[tuple]:
        """(name, place of the contents, size) of each chunk, as far as they look like chunks.

        Args:
            form: name and size.
            overhead: bytes that the size counts beyond the contents.
            step: chunks begin at multiples of it.
        """
        head = struct.calcsize(self.order + form)
        for _ in range(_MOST_CHUNKS):
            if begin + head > self.size:
                return
            name, size = self.take(begin, form)
            if not name[:4].isascii() or not name[:4].decode().isprintable():
                return
            yield name[:4], begin + head, max(0, size - overhead)
            begin += head + max(0, size - overhead)
            begin += -begin % step

    def sound(
        self, begin: int, size: int, place: int, form: str, may_be_open: bool = True, **more
    ) -> SoundChunk:
        """The chunk of `size` bytes at `begin`; its size stands at `place`. Raises Damage: the file has less."""
        there = max(0, self.size - begin)
        if may_be_open and there and (size == 0 or (size > there and size >= _LEFT_OPEN[form])):
            most = 2 ** (8 * struct.calcsize(form) - form.islower()) - 1
            return SoundChunk(begin, there, (place, struct.pack(self.order + form, min(there, most))), **more)
        if size > there:
            raise Damage(f"its header tells of {size} bytes of sound, the file has {there}: it is cut")
        end = begin + size
        for here in {end, end + (size & 1), end + -end % 8}:
            if here + 4 <= self.size and self.take(here, "4s")[0] in _BEGINNINGS:
                raise Damage(f"another file begins behind its sound, at byte {here}")
        return SoundChunk(begin, size, **more)

    def last_sound(self, begin: int, size: int, chunks: Iterator[tuple], name: bytes, **more) -> SoundChunk:
        """`sound` of a RIFF or IFF file. Raises Damage, too: among the `chunks` behind there is more sound."""
        # A finished file without sound may have other chunks behind; an unfinished one tells of none.
        (whole,) = self.take(4, "I")
        unfinished = whole + 8 <= begin or whole >= _LEFT_OPEN["I"]
        found = self.sound(begin, size, begin - 4, "I", may_be_open=size > 0 or unfinished, **more)
        for other, place, _ in () if found.correction else chunks:
            if other in _BEGINNINGS or other == name:
                raise Damage(f"more sound follows behind its sound, at byte {place}")
        return found


def sound_chunk(stream: BinaryIO, size: int) -> SoundChunk | None:
    """The sound of a file of `size` bytes, or None if it is of no such container.

    Raises:
        Damage: the file ends before its sound does, or another file follows.
    """
    stream.seek(0)
    head = stream.read(64)
    for beginning, order, reader in _READERS:
        if head.startswith(beginning):
            return reader(_File(stream, size, order), head)
    return None


def _wav(file: _File, head: bytes) -> SoundChunk | None:
    if head[8:12] != b"WAVE":
        return None
    codec, long = 0, None
    chunks = file.chunks(12)
    for name, begin, size in chunks:
        if name == b"ds64":
            long = begin + 8
        elif name == b"fmt ":
            (codec,) = file.take(begin, "H")
        elif name == b"data" and size == 0xFFFF_FFFF and long:
            return file.sound(begin, file.take(long, "Q")[0], long, "Q", codec=codec)
        elif name == b"data":
            return file.last_sound(begin, size, chunks, name, codec=codec)
    raise Damage("it has no data chunk")


def _w64(file: _File, head: bytes) -> SoundChunk:
    codec, chunks = 0, file.chunks(40, "16sq", overhead=24, step=8)
    for name, begin, size in chunks:
        if name == b"fmt ":
            (codec,) = file.take(begin, "H")
        elif name == b"data":
            found = file.sound(begin, size, begin - 8, "q", codec=codec)
            # libsndfile takes what follows for sound.
            return dataclasses.replace(found, end=found.begin + found.size)
    raise Damage("it has no data chunk")


def _iff(file: _File, head: bytes) -> SoundChunk | None:
    sound = {b"AIFF": b"SSND", b"AIFC": b"SSND", b"8SVX": b"BODY", b"16SV": b"BODY"}.get(head[8:12])
    if sound is None:
        return None
    chunks = file.chunks(12)
    for name, begin, size in chunks:
        if name == sound:
            return file.last_sound(begin, size, chunks, name)
    raise Damage(f"it has no {sound.decode()} chunk")


def _caf(file: _File, head: bytes) -> SoundChunk:
    chunks = file.chunks(8, "4sq", step=1)
    for name, begin, size in chunks:
        if name == b"data":
            is_open = file.take(begin - 8, "q")[0] == -1
            return file.sound(begin, size, begin - 8, "q", may_be_open=is_open)
    raise Damage("it has no data chunk")


def _au(file: _File, head: bytes) -> SoundChunk:
    begin, size = file.take(4, "II")
    return file.sound(begin, size, 8, "I")


def _nist(file: _File, head: bytes) -> SoundChunk:
    """Its header is text: a line of its own size, then a name, a type and a value a line."""
    begin = int(head[8:16])
    (text,) = file.take(0, f"{begin}s")
    fields = dict(re.findall(rb"(\w+) -i (\d+)", text))
    size = [int(fields.get(name, 1)) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    return file.sound(begin, size[0] * size[1] * size[2], 0, "I", may_be_open=False)


def _voc(file: _File, head: bytes) -> SoundChunk:
    """Blocks of a type in one byte and a size in three, ended by a zero."""
    begin, found = file.take(20, "H")[0], None
    for _ in range(_MOST_CHUNKS):
        if begin >= file.size or not (kind := file.take(begin, "B")[0]):
            break
        size = int.from_bytes(file.take(begin + 1, "3s")[0], "little")
        if found and kind in (1, 2, 9):
            raise Damage(f"a second block of sound begins at byte {begin}")
        if kind in (1, 9):
            found = file.sound(begin + 4, size, 0, "I", may_be_open=False)
        begin += 4 + size
    if found is None:
        raise Damage("it has no block of sound")
    return found


_READERS = (
    (b"RIFF", "<", _wav), (b"RIFX", ">", _wav), (b"RF64", "<", _wav), (b"BW64", "<", _wav),
    (b"riff\x2e\x91\xcf\x11", "<", _w64), (b"FORM", ">", _iff), (b"caff", ">", _caf),
    (b".snd", ">", _au), (b"dns.", "<", _au), (b"NIST_1A\n", "<", _nist), (b"Creative Voice File", "<", _voc),
)  # fmt: skip
