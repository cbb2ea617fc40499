"""A WAV that is written while its sound is still being made."""

import os
import struct

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.writing import to_pcm

_UNKNOWN = 0xFFFF_FFFF
"""In place of a length that nobody knows yet; players take it for "to the end of the file"."""


def wav_header(sample_rate: int, samples: int | None = None) -> bytes:
    """The 44 bytes before 16-bit mono samples; None stands for a length that is not known yet."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    riff, data = (_UNKNOWN, _UNKNOWN) if samples is None else (36 + 2 * samples, 2 * samples)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data)


def encode_wav(samples: Float32[np.ndarray, "samples"], sample_rate: int) -> bytes:
    """A 16-bit mono WAV. Raises AudioError: a sample is NaN or infinite."""
    return wav_header(sample_rate, len(samples)) + _bytes(samples)


class GrowingWav:
    """A 16-bit mono WAV that can be played while it grows. Use it in a `with`, or close it.

    What was added is in the file at once. The header says how much there is when the file is closed.

    Attributes:
        samples: how many there are so far.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int):
        """Begins the file, in place of an older one."""
        self._file, self._rate = open(path, "wb", buffering=0), sample_rate
        self.restart()

    def restart(self) -> None:
        """Drops what was added."""
        self.samples = 0
        self._file.seek(0)
        self._file.truncate()
        _write(self._file, wav_header(self._rate))

    def add(self, samples: Float32[np.ndarray, "samples"]) -> None:
        """Appends samples in [-1, 1]. Raises AudioError: one is NaN or infinite."""
        _write(self._file, _bytes(samples))
        self.samples += len(samples)

    def close(self) -> None:
        """Completes the header."""
        if not self._file.closed:
            self._file.seek(0)
            _write(self._file, wav_header(self._rate, self.samples))
            self._file.close()

    def __enter__(self) -> "GrowingWav":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _bytes(samples: Float32[np.ndarray, "samples"]) -> bytes:
    return to_pcm(samples, "the sound")[0].astype("<i2").tobytes()


def _write(file, data: bytes) -> None:
    """All of it: an unbuffered file may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
