"""Reading, resampling, log-mel features and writing of audio; frame and token counts.

numpy alone is needed to import this package, and scipy, which JAX brings, to compute `log_mel`; soundfile, soxr,
miniaudio and av are loaded where they are used.
"""

from bagpiper_jax.audio.faults import REMEDIES, AudioError
from bagpiper_jax.audio.features import log_mel
from bagpiper_jax.audio.flac import decode_flac, encode_flac, flac_samples
from bagpiper_jax.audio.growing import GrowingWav, encode_wav, wav_header
from bagpiper_jax.audio.lengths import (
    CHUNK_FRAMES,
    CHUNK_TOKENS,
    FFT_SIZE,
    HOP,
    MAX_SECONDS,
    MEL_BINS,
    MIN_SECONDS,
    SAMPLE_RATE,
    mel_frames,
    tower_tokens,
)
from bagpiper_jax.audio.reading import read, resample
from bagpiper_jax.audio.writing import file_format, write

__all__ = [
    "CHUNK_FRAMES", "CHUNK_TOKENS", "FFT_SIZE", "HOP", "MAX_SECONDS", "MEL_BINS", "MIN_SECONDS", "REMEDIES",
    "SAMPLE_RATE", "AudioError", "GrowingWav", "decode_flac", "encode_flac", "encode_wav", "file_format",
    "flac_samples", "log_mel", "mel_frames", "read", "resample", "tower_tokens", "wav_header", "write",
]  # fmt: skip
