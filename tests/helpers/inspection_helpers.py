"""A tiny random codec for tests that listen to codes."""

from pathlib import Path

import numpy as np
from synthetic_cache import CODES, STREAMS

from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.storage import save_codec
from bagpiper_jax.models.configs import CodecConfig, SemanticEncoderConfig

CODEC = CodecConfig(
    encoder_width=4, decoder_width=16, acoustic_width=8, codebook_size=CODES, codebook_width=16,
    num_codebooks=STREAMS,
    semantic=SemanticEncoderConfig(8, 1, 2, 16, conv_widths=(8,) * 7, positional_kernel=4, positional_groups=2),
)  # fmt: skip


def random_codec(path: Path):
    """Writes a codec with random codebooks; returns (path, parameters, fingerprint)."""
    parameters = functional.initialize(CODEC)
    shape = parameters["quantizer/embed"].shape
    parameters["quantizer/embed"] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return path, parameters, save_codec(path, parameters, CODEC)
