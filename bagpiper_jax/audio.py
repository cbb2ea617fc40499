"""Reading, resampling, log-mel features and writing of audio; frame and token counts."""

HOP = 160
CHUNK_FRAMES = 100
CHUNK_TOKENS = 13


def mel_frames(num_samples: int) -> int:
    """F, mel frames of a 16 kHz waveform (reference section 3.5)."""
    return num_samples // HOP


def tower_tokens(frames: int) -> int:
    """Tower outputs of F mel frames: 13 per full chunk of 100, plus the tail's (reference section 3.6)."""
    full, tail = divmod(frames, CHUNK_FRAMES)
    for _ in range(3):
        tail = (tail + 1) // 2
    return CHUNK_TOKENS * full + tail
