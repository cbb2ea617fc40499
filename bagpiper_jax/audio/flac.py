"""The FLAC streams of caches: 16 kHz, mono, 16 bits."""

import functools
import io
import logging

import numpy as np
from jaxtyping import Float32

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
    if samples is not None and (read := _drflac()):
        return read(data, samples)
    import soundfile

    try:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0][:, 0].copy()
    except soundfile.LibsndfileError as error:
        raise AudioError("corrupt", "<bytes>", str(error)) from error


def flac_samples(data: bytes) -> int | None:
    """Samples of a FLAC stream at 16 kHz, mono, 16 bits, as its STREAMINFO says; None if it is no such stream."""
    packed = int.from_bytes(data[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    if (data[:4], rate, channels, bits) != (b"fLaC", SAMPLE_RATE, 1, 16):
        return None
    return packed & (1 << 36) - 1 or None


@functools.cache
def _drflac():
    """A decoder of our FLAC streams that is twice as fast as libsndfile, where `miniaudio` is installed."""
    try:
        import miniaudio
    except ImportError:
        return None

    def read(data: bytes, samples: int) -> np.ndarray:
        try:
            pcm = np.frombuffer(miniaudio.flac_read_s16(data).samples, np.int16)
        except miniaudio.MiniaudioError as error:
            raise AudioError("corrupt", "<bytes>", str(error)) from error
        if len(pcm) != samples:  # it skips frames whose checksum is wrong
            raise AudioError("corrupt", "<bytes>", f"{len(pcm)} of {samples} samples could be decoded")
        return np.multiply(pcm, np.float32(1 / 32768), dtype=np.float32)

    return read
