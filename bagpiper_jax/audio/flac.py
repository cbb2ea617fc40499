"""The FLAC streams of caches: 16 kHz, mono, 16 bits."""

import functools
import io
import logging
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int16

from bagpiper_jax.audio.faults import AudioError
from bagpiper_jax.audio.lengths import SAMPLE_RATE
from bagpiper_jax.audio.writing import to_pcm

logger = logging.getLogger(__name__)


def encode_flac(samples: Float32[np.ndarray, "samples"], sample_rate: int = SAMPLE_RATE) -> bytes:
    """16-bit mono FLAC of a waveform; clipped samples are counted in the log."""
    import soundfile

    pcm, clipped = to_pcm(samples, "<samples>")
    if clipped:
        logger.warning("%d of %d samples clipped to [-1, 1] in encoding FLAC", clipped, len(pcm))
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> Float32[np.ndarray, "samples"]:
    """Inverts `encode_flac` exactly for samples that were 16-bit. Raises AudioError on damaged bytes."""
    samples = flac_samples(data)
    if samples is not None and (read := drflac()):
        try:
            pcm = read(data)[:, 0]
        except ValueError as error:
            raise AudioError("corrupt", "<bytes>", str(error)) from error
        if len(pcm) != samples:
            raise AudioError("corrupt", "<bytes>", f"{len(pcm)} of {samples} samples could be decoded")
        return np.multiply(pcm, np.float32(1 / 32768), dtype=np.float32)
    import soundfile

    try:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0][:, 0].copy()
    except soundfile.LibsndfileError as error:
        raise AudioError("corrupt", "<bytes>", str(error)) from error


def flac_samples(data: bytes) -> int | None:
    """Samples of a FLAC stream at 16 kHz, mono, 16 bits, as its STREAMINFO says; None if it is no such stream."""
    *form, total = stated(data)
    return (total or None) if (data[:4], *form) == (b"fLaC", SAMPLE_RATE, 1, 16) else None


def stated(data: bytes) -> tuple[int, int, int, int]:
    """Samples a second, channels, bits and samples of each channel, as the STREAMINFO of a FLAC says."""
    packed = int.from_bytes(data[18:26], "big")
    return packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1


@functools.cache
def drflac() -> Callable[[bytes], Int16[np.ndarray, "samples channels"]] | None:
    """A decoder of 16-bit FLAC that is twice as fast as libsndfile, where `miniaudio` is installed.

    It leaves out frames whose checksum is wrong, so samples must be counted. It raises ValueError.
    """
    try:
        import miniaudio
    except ImportError:
        return None

    def read(data: bytes) -> np.ndarray:
        try:
            sound = miniaudio.flac_read_s16(data)
        except miniaudio.MiniaudioError as error:
            raise ValueError(f"dr_flac: {error}") from error
        return np.frombuffer(sound.samples, np.int16).reshape(-1, sound.nchannels)

    return read
