"""A codec that compiles in a moment, and noise for it."""

import numpy as np

from bagpiper_jax.models.configs import CodecConfig, SemanticEncoderConfig

TINY = CodecConfig(
    strides=(8, 5, 4, 4),
    encoder_width=4,
    decoder_width=32,
    acoustic_width=16,
    codebook_size=16,
    codebook_width=32,
    num_codebooks=3,
    semantic=SemanticEncoderConfig(
        width=16, layers=2, heads=2, ffn_width=24, conv_widths=(8,) * 7, positional_kernel=4,
        positional_groups=2, conv_kernels=(10, 3, 3, 3, 3, 2, 4), conv_strides=(5, 2, 2, 2, 2, 2, 4),
    ),
)  # fmt: skip


HOP = TINY.hop


def noise(seed: int, samples: int, rows: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, samples)) * rng.uniform(0.05, 0.5, (rows, 1))).astype(np.float32)
