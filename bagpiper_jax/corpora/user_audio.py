"""Copies a user's audio files into a corpus, restartably."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from bagpiper_jax import audio, files
from bagpiper_jax.corpora import assembly, cutting
from bagpiper_jax.corpora.clip_readers import read_part
from bagpiper_jax.journal import Results
from bagpiper_jax.outcomes import RecordError, Rejected

_MAX_PEAK = 4.0
"""Lossy codecs overshoot ±1 a little and are scaled down; a higher peak is another scale, such as 16-bit integers."""

_OVERHANG = 0.1
"""Seconds beyond the maximum that are cut off: MP3 pads a 30 s cut to whole frames."""

LONGEST_RECORDING = 24 * 3600.0
"""Seconds of a recording of which parts are taken."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """One file to copy: `slot` is "main" or the index of a dialogue message; of `seconds` from `start`, or all.

    With a `size`, the file is that many bytes of `source` from `offset` on, as in an archive. With `cut`, what lasts
    longer than `max_seconds` becomes several files, see `piece_file`; `spoken` are spans of the recording, in seconds,
    that stay whole.
    """

    record: str
    slot: str | int
    source: str
    target: str
    min_seconds: float
    max_seconds: float
    start: float = 0.0
    seconds: float | None = None
    offset: int = 0
    size: int = 0
    cut: cutting.At | None = None
    spoken: tuple[cutting.Span, ...] = ()


@dataclasses.dataclass(frozen=True)
class Piece:
    """From `start` to `end`, in seconds of the recording; `fault` says why it was not written, "" if it was."""

    start: float
    end: float
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file that was copied: how long the copy lasts, how long the recording, and what it was cut into, if it was.

    `folder` of the corpus holds the copy.
    """

    seconds: float
    recording: float
    pieces: tuple[Piece, ...] = ()
    folder: str = "audio"

    @classmethod
    def from_json(cls, value: dict) -> Self:
        return cls(value["seconds"], value["recording"], tuple(Piece(**piece) for piece in value["pieces"]))

    def is_whole(self, target: str) -> bool:
        """Whether all its files are there."""
        wanted = [piece_file(target, n) for n, piece in enumerate(self.pieces) if not piece.fault]
        return all(Path(name).is_file() for name in (wanted if self.pieces else [target]))


def piece_name(name: str, number: int) -> str:
    """The id of a piece of a record."""
    return f"{name}-{number:03d}"


def piece_file(target: str, number: int) -> str:
    """Where a piece of a recording is written: not among the records' own files, any of which may have its name."""
    path = Path(target)
    return str(path.parent / "pieces" / (piece_name(path.stem, number) + path.suffix))


def convert_all(
    conversions: Sequence[Conversion], directory: Path, workers: int
) -> dict[Conversion, Converted | Rejected]:
    """Each conversion's result."""
    journal = Results(directory / assembly.JOURNAL)
    keys = {conversion: _key(conversion, directory) for conversion in conversions}
    known = {c: Converted.from_json(value) for c in conversions if (value := journal.get(keys[c]))}
    results: dict[Conversion, Converted | Rejected] = {c: x for c, x in known.items() if x.is_whole(c.target)}
    pending = [c for c in conversions if c not in results]
    _log.info("%d audio files to convert, %d done before", len(pending), len(results))
    try:
        for conversion, result in assembly.parallel_map(convert, pending, workers, lambda c: c.source):
            results[conversion] = result
            if isinstance(result, Converted):
                journal.add(keys[conversion], dataclasses.asdict(result))
    finally:
        journal.close()
        _decoded.cache_clear()
    return results


def _key(conversion: Conversion, directory: Path) -> str:
    """Changes when the source file or what is asked of it changes."""
    try:
        status = os.stat(conversion.source)
        identity = (status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        identity = ()
    asked = dataclasses.replace(conversion, target=os.path.relpath(conversion.target, directory))
    return assembly.digest(dataclasses.asdict(asked), identity)


def convert(conversion: Conversion) -> Converted | Rejected:
    """Copies one file as 16 kHz mono FLAC, in pieces if it is to be cut, unless it cannot be used.

    Raises:
        WriteError: the disk refuses the copy.
    """
    try:
        samples, recording = _read(conversion)
        if conversion.cut and len(samples) > round((conversion.max_seconds + _OVERHANG) * audio.SAMPLE_RATE):
            return _write_pieces(conversion, within_range(samples), recording)
        samples = within_range(samples[: round(conversion.max_seconds * audio.SAMPLE_RATE)])
        write_flac(Path(conversion.target), samples)
        return Converted(round(len(samples) / audio.SAMPLE_RATE, 6), recording)
    except Exception as error:  # a file may be anything; the others go on
        fault = assembly.fault_of(error)
        return Rejected(fault.reason, f"{conversion.source}: {fault.detail}", fault.remedy)


def _write_pieces(conversion: Conversion, samples: np.ndarray, recording: float) -> Converted:
    assert conversion.cut
    start, rate = conversion.start, audio.SAMPLE_RATE
    spoken = [(begin - start, end - start) for begin, end in conversion.spoken if end > start]
    limits = conversion.max_seconds, conversion.min_seconds
    found = []
    for number, (begin, end) in enumerate(cutting.pieces(samples, *limits, spoken, conversion.cut)):
        part = samples[round(begin * rate) : round(end * rate)]
        fault = (
            "too_long_turn" if end - begin > limits[0] + _OVERHANG else "" if part.any() else "silent_audio"
        )
        if not fault:
            write_flac(Path(piece_file(conversion.target, number)), part)
        found.append(Piece(round(start + begin, 6), round(start + end, 6), fault))
    return Converted(round(len(samples) / rate, 6), recording, tuple(found))


def _read(conversion: Conversion) -> tuple[np.ndarray, float]:
    """The samples that are wanted, and the seconds of the recording that they are of."""
    limit = LONGEST_RECORDING if conversion.cut else conversion.max_seconds + _OVERHANG
    try:
        if conversion.start or conversion.seconds is not None:
            return _part(conversion, limit)
        source: str | bytes = conversion.source
        if conversion.size:
            source = read_part(Path(conversion.source), conversion.offset, conversion.size)
        samples = audio.read(source, max_seconds=limit, min_seconds=conversion.min_seconds)
        return samples, round(len(samples) / audio.SAMPLE_RATE, 6)
    except OSError as error:
        # No permission, a name too long, a broken disk: this record's fault, not the build's.
        raise RecordError(
            "unreadable_audio", str(error.strerror), "check the path and its permissions"
        ) from error


@functools.lru_cache(maxsize=1)
def _decoded(path: str, offset: int, size: int, modified: int) -> np.ndarray:
    """The recording read last, as its parts mostly follow each other; a file that was `modified` is another."""
    source = read_part(Path(path), offset, size) if size else path
    return audio.read(source, max_seconds=LONGEST_RECORDING)


def _part(conversion: Conversion, limit: float) -> tuple[np.ndarray, float]:
    """A part of a recording, all of which is decoded, and the recording's seconds."""
    path = conversion.source
    modified = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
    samples = _decoded(path, conversion.offset, conversion.size, modified)
    start, total = conversion.start, len(samples) / audio.SAMPLE_RATE
    seconds = total - start if conversion.seconds is None else conversion.seconds
    if seconds <= 0 or start + seconds > total + _OVERHANG:
        detail = f"{start:g} s to {start + seconds:g} s of {total:g} s"
        raise RecordError("part_out_of_range", detail, "repair start and duration")
    if not conversion.min_seconds <= seconds <= limit:
        reason = "too_short" if seconds < conversion.min_seconds else "too_long"
        raise audio.AudioError(reason, conversion.source, f"a part of {seconds:g} s")
    begin, end = (round(x * audio.SAMPLE_RATE) for x in (start, start + seconds))
    return samples[begin:end], round(total, 6)


def within_range(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1], scaled down if they overshoot. Raises RecordError: silence, or another scale."""
    peak = np.abs(samples).max()
    if peak == 0:
        raise RecordError("silent_audio", "every sample is zero", "remove the record")
    if peak > _MAX_PEAK:
        raise RecordError("out_of_range_audio", f"the peak is {peak:g}", "scale float audio to [-1, 1]")
    return samples / max(peak, 1.0)


def write_flac(target: Path, samples: np.ndarray) -> None:
    """Writes 16 kHz mono FLAC, whole or not at all. Raises WriteError."""
    with files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    files.replace(target, audio.encode_flac(samples))
