"""Copies a user's audio files into a corpus, restartably."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import audio, files
from bagpiper_jax.corpora import assembly
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

    With a `size`, the file is that many bytes of `source` from `offset` on, as in an archive.
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


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file that was copied, and how long it lasts."""

    seconds: float


def convert_all(
    conversions: Sequence[Conversion], directory: Path, workers: int
) -> dict[Conversion, Converted | Rejected]:
    """Each conversion's result."""
    journal = Results(directory / assembly.JOURNAL)
    keys = {conversion: _key(conversion, directory) for conversion in conversions}
    known = ((c, journal.get(keys[c])) for c in conversions if Path(c.target).is_file())
    results: dict[Conversion, Converted | Rejected] = {c: Converted(**value) for c, value in known if value}
    pending = [c for c in conversions if c not in results]
    _log.info("%d audio files to convert, %d done before", len(pending), len(results))
    try:
        for conversion, result in assembly.parallel_map(convert, pending, workers, lambda c: c.source):
            results[conversion] = result
            if isinstance(result, Converted):
                journal.add(keys[conversion], dataclasses.asdict(result))
    finally:
        journal.close()
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
    """Copies one file as 16 kHz mono FLAC, unless it cannot be used.

    Raises:
        WriteError: the disk refuses the copy.
    """
    try:
        samples = _read(conversion)
        samples = within_range(samples[: round(conversion.max_seconds * audio.SAMPLE_RATE)])
        write_flac(Path(conversion.target), samples)
        return Converted(round(len(samples) / audio.SAMPLE_RATE, 6))
    except Exception as error:  # a file may be anything; the others go on
        fault = assembly.fault_of(error)
        return Rejected(fault.reason, f"{conversion.source}: {fault.detail}", fault.remedy)


def _read(conversion: Conversion) -> np.ndarray:
    limit = conversion.max_seconds + _OVERHANG
    try:
        source = conversion.source
        if conversion.size:
            source = read_part(Path(source), conversion.offset, conversion.size)
        if conversion.start or conversion.seconds is not None:
            return _part(source, conversion, limit)
        return audio.read(source, max_seconds=limit, min_seconds=conversion.min_seconds)
    except OSError as error:
        # No permission, a name too long, a broken disk: this record's fault, not the build's.
        raise RecordError(
            "unreadable_audio", str(error.strerror), "check the path and its permissions"
        ) from error


def _part(source: str | bytes, conversion: Conversion, limit: float) -> np.ndarray:
    """A part of a recording, all of which is decoded."""
    samples = audio.read(source, max_seconds=LONGEST_RECORDING)
    start, total = conversion.start, len(samples) / audio.SAMPLE_RATE
    seconds = total - start if conversion.seconds is None else conversion.seconds
    if seconds <= 0 or start + seconds > total + _OVERHANG:
        detail = f"{start:g} s to {start + seconds:g} s of {total:g} s"
        raise RecordError("part_out_of_range", detail, "repair start and duration")
    if not conversion.min_seconds <= seconds <= limit:
        reason = "too_short" if seconds < conversion.min_seconds else "too_long"
        raise audio.AudioError(reason, conversion.source, f"a part of {seconds:g} s")
    begin, end = (round(x * audio.SAMPLE_RATE) for x in (start, start + seconds))
    return samples[begin:end]


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
