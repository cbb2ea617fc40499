"""The headers of MPEG audio: what the four bytes say that begin a frame, and the first frame says of a whole file."""

import dataclasses
import functools

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
_MPEG1 = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_MPEG2 = {
    3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second by the layer's code (3 is Layer I, 1 is Layer III) and by index - 1."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the header of a frame says.

    Attributes:
        length: bytes, the header's included.
        samples: of each channel.
        rate: samples a second.
        channels: 1 or 2.
        layer: 1, 2 or 3.
        side: bytes of Layer III's side information; where it ends, an encoder may leave facts about the whole file.
        checked: two bytes of checksum follow the header.
    """

    length: int
    samples: int
    rate: int
    channels: int
    layer: int
    side: int
    checked: bool

    @property
    def form(self) -> tuple[int, int, int]:
        return self.rate, self.channels, self.layer


@functools.lru_cache(maxsize=4096)
def frame_of(head: bytes) -> Frame | None:
    """The frame that four bytes begin, or None; None too for free format (0 as speed), which tells no length."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer, speed, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or speed in (0, 15) or rate == 3 or head[3] & 3 == 2:
        return None
    rate, padding, channels = _RATES[version][rate], head[2] >> 1 & 1, 1 if head[3] >> 6 == 3 else 2
    bits = 1000 * (_MPEG1[layer] if version == 3 else _MPEG2[max(layer, 2)])[speed - 1]
    if layer == 3:
        return Frame((12 * bits // rate + padding) * 4, 384, rate, channels, 1, 0, not head[1] & 1)
    samples = 576 if layer == 1 and version != 3 else 1152
    side = {(3, 1): 17, (3, 2): 32}.get((version, channels), 9 if channels == 1 else 17)
    length = samples // 8 * bits // rate + padding
    return Frame(length, samples, rate, channels, 4 - layer, side, not head[1] & 1)


def reach(frame: Frame, content: bytes) -> int:
    """Bytes of the frames before that a frame is decoded with; 0 but in Layer III."""
    if frame.layer != 3:
        return 0
    side = content[6:8] if frame.checked else content[4:6]
    return side[0] << 1 | side[1] >> 7 if frame.samples == 1152 else side[0]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What an encoder leaves in a first frame that has no sound.

    Attributes:
        size: bytes of the frame of facts.
        frames: how many follow; 0 if it does not tell. Some encoders count the frame of facts.
        bytes: of all frames, that of facts included; 0 if it does not tell.
        delay, padding: samples that the encoder put before and behind the sound; None where it does not tell.
    """

    size: int
    frames: int
    bytes: int = 0
    delay: int | None = None
    padding: int | None = None


def facts_of(data: bytes, frame: Frame) -> Facts | None:
    """The facts in a frame's bytes, or None if it is a frame of sound."""
    if frame.layer != 3:
        return None
    if data[36:40] == b"VBRI":
        return Facts(len(data), int.from_bytes(data[50:54], "big"), int.from_bytes(data[46:50], "big"))
    for place in (4 + frame.side, 6 + frame.side):
        if data[place : place + 4] in (b"Xing", b"Info"):
            return _xing(data, place)
    return None


def _xing(data: bytes, place: int) -> Facts:
    flags = data[place + 7]
    numbers = place + 8
    frames = int.from_bytes(data[numbers : numbers + 4], "big") if flags & 1 else 0
    numbers += 4 * (flags & 1)
    size = int.from_bytes(data[numbers : numbers + 4], "big") if flags & 2 else 0
    encoder = place + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    packed = data[encoder + 21 : encoder + 24]
    if data[encoder : encoder + 4] not in (b"LAME", b"Lavf", b"Lavc") or len(packed) < 3:
        return Facts(len(data), frames, size)
    both = int.from_bytes(packed, "big")
    return Facts(len(data), frames, size, both >> 12, both & 0xFFF)
