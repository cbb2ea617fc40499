"""MP3 and the older layers of MPEG audio: the frames are counted before they are decoded.

Nothing in front of an MP3 need tell how long it is, and decoders leave out what they can make no sense of. So every
frame is walked from header to header, and every sample that the headers promise must come out of the decoder.
"""

import dataclasses

import numpy as np

from bagpiper_jax.audio.faults import Damage, TooLong
from bagpiper_jax.audio.formats.mpeg_headers import Facts, Frame, facts_of, frame_of, reach
from bagpiper_jax.audio.formats.tags import skipped, trimmed
from bagpiper_jax.audio.waveform import Waveform, changed, concatenated

_DECODER_DELAY = 529
"""Samples by which every decoder of Layer III lags behind its encoder."""

_LONGEST_FRAME = 2881
"""Bytes."""

_MARGIN = 1.0
"""Seconds walked beyond the accepted length, as an encoder's delay and padding go off."""


@dataclasses.dataclass
class _Part:
    """Frames that were encoded in one go.

    Attributes:
        begin, end: their bytes, without tags and without a first frame of facts.
        frame: the first of them.
        facts: what a frame of facts before them says.
        count: how many they are.
        headless: how many at the beginning use bytes of frames that are not there, as where a stream was joined late.
    """

    begin: int
    end: int
    frame: Frame
    facts: Facts | None
    count: int = 0
    headless: int = 0
    _reservoir: int = 0

    def take(self, frame: Frame, content: bytes) -> None:
        """One frame more."""
        if self.headless == self.count:
            self.headless += reach(frame, content) > self._reservoir
            self._reservoir += frame.length - 4 - 2 * frame.checked - frame.side
        self.count, self.end = self.count + 1, self.end + frame.length

    def is_whole(self) -> bool:
        """Whether there are as many frames, or else bytes, as the frame of facts says."""
        facts = self.facts or Facts(0, 0)
        counted = facts.frames == self.count or facts.bytes == facts.size + self.end - self.begin
        return counted and facts.frames > 0


def begins(data: bytes) -> bool:
    """Whether three frames of MPEG audio follow each other near the beginning, or as many as there are."""
    try:
        place = _first(data)
    except Damage:
        return False
    second = place + frame_of(data[place : place + 4]).length
    frame = frame_of(data[second : second + 4])
    return frame is None or _follows(data, second + frame.length, len(data), frame)


def decode(data: bytes, max_seconds: float) -> Waveform:
    """The first channel, without the encoder's delay and padding where it tells them.

    Raises:
        Damage: frames are missing, cut or contradict each other.
        TooLong: from walking the frames.
    """
    return concatenated([_decoded(data, part) for part in _parts(data, max_seconds)])


def _follows(data: bytes, place: int, end: int, frame: Frame) -> bool:
    other = frame_of(data[place : place + 4])
    return place == end or skipped(data, place) > place or (other is not None and other.form == frame.form)


def _parts(data: bytes, max_seconds: float) -> list[_Part]:
    place, end = _first(data), trimmed(data)
    parts, seconds, joined = [], 0.0, True
    while place < end:
        frame = frame_of(data[place : place + 4])
        if frame and place + frame.length <= end:
            content = data[place : place + frame.length]
            if parts and frame.form != parts[0].frame.form:
                raise changed(parts[0].frame.form[:2], frame.form[:2], seconds)
            if facts := facts_of(content, frame):
                parts.append(_Part(place + frame.length, place + frame.length, frame, facts))
            else:
                if joined:
                    parts.append(_Part(place, place, frame, None))
                parts[-1].take(frame, content)
                seconds += frame.samples / frame.rate
            place, joined = place + frame.length, False
        elif (behind := skipped(data, place)) > place:
            place, joined = behind, True
        elif not parts:
            raise Damage("no frame of MPEG audio is whole")
        else:
            _require_end(data, place, end, parts[-1])
            break
        if seconds > max_seconds + _MARGIN:
            raise TooLong(seconds)
    return parts


def _first(data: bytes) -> int:
    """The first frame, behind tags, zeros and at most the rest of a frame that a stream was joined in."""
    begin = 0
    while (behind := skipped(data, begin)) > begin:
        begin = behind
    if data[begin : begin + 1] == b"\0":
        begin = len(data) - len(data[begin:].lstrip(b"\0"))
    found = _next(data, begin, begin + _LONGEST_FRAME)
    if found is None or found - begin >= frame_of(data[found : found + 4]).length - 4:
        raise Damage("no frame of MPEG audio begins it")
    return found


def _next(data: bytes, place: int, until: int) -> int | None:
    """The next place at which two frames follow each other, or one ends the file."""
    while 0 <= (place := data.find(b"\xff", place, until)):
        frame = frame_of(data[place : place + 4])
        if frame and _follows(data, place + frame.length, len(data), frame):
            return place
        place += 1
    return None


def _require_end(data: bytes, place: int, end: int, part: _Part) -> None:
    """Raises Damage: what is no frame here is more than bytes that came behind a whole stream."""
    rest = data[place:end]
    if (more := _next(data, place + 1, end)) is not None:
        raise Damage(f"{more - place} bytes between its frames, at byte {place}, are none")
    if not rest.strip(b"\0") or part.is_whole():
        return
    if frame_of(rest[:4]):
        raise Damage(f"its last frame has {len(rest)} of {frame_of(rest[:4]).length} bytes: it is cut")
    if len(rest) >= part.frame.length:
        raise Damage(f"{len(rest)} bytes behind its last frame, at byte {place}, are none")


def _decoded(data: bytes, part: _Part) -> Waveform:
    import miniaudio

    told = part.facts.frames if part.facts else 0
    if told > part.count and not part.is_whole():
        raise Damage(f"its first frame tells of {told} frames, {part.count} follow: it is cut")
    if not part.count:
        return Waveform(np.zeros(0, np.float32), part.frame.rate, part.frame.channels)
    try:
        sound = miniaudio.mp3_read_f32(data[part.begin : part.end])
    except miniaudio.MiniaudioError as error:
        raise Damage(f"dr_mp3: {error}") from error
    promised = part.count * part.frame.samples
    missing = promised - sound.num_frames
    if not 0 <= missing <= part.headless * part.frame.samples:
        raise Damage(f"{sound.num_frames} of {promised} samples could be decoded")
    samples = np.frombuffer(sound.samples, np.float32)[:: sound.nchannels]
    samples = np.concatenate([np.zeros(missing, np.float32), samples]) if missing else samples
    if part.is_whole() and part.facts.delay is not None:
        end = len(samples) - max(0, part.facts.padding - _DECODER_DELAY)
        samples = samples[part.facts.delay + _DECODER_DELAY : end]
    return Waveform(samples, part.frame.rate, part.frame.channels)
