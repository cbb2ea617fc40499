"""The rates and sizes of sound in this program; how many frames and tokens a waveform has."""

SAMPLE_RATE = 16_000
MAX_SECONDS = 30.0
MIN_SECONDS = 0.02
HOP = 160
FFT_SIZE = 400
MEL_BINS = 128
CHUNK_FRAMES = 100
CHUNK_TOKENS = 13


def mel_frames(num_samples: int) -> int:
    """F, mel frames of a 16 kHz waveform (docs/reference.md, Log-mel features)."""
    return num_samples // HOP


def tower_tokens(frames: int) -> int:
    """Tower outputs of F mel frames: 13 per full chunk of 100, plus the tail's (docs/reference.md, Audio tower)."""
    full, tail = divmod(frames, CHUNK_FRAMES)
    for _ in range(3):
        tail = (tail + 1) // 2
    return CHUNK_TOKENS * full + tail
