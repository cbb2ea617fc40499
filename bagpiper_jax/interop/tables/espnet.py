"""ESPnet's native checkpoint ↔ our model and codec: 1,381 tensors and `vocab_weight`.

See docs/reference.md, Native checkpoint.
"""

import numpy as np

from bagpiper_jax.interop.tables import qwen3, tower, xcodec
from bagpiper_jax.interop.tables.grammar import MATRIX, SAME, Entry, prefixed, write_out
from bagpiper_jax.interop.tables.grammar import their_shapes as shapes_of
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Shapes
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT, Vocabulary

TABLE = (
    ("stream_emb.weight", "stream_emb", SAME),
    ("adaptor.continuous_audio.weight", "adaptor/kernel", MATRIX),
    ("adaptor.continuous_audio.bias", "adaptor/bias", SAME),
)
TOWER_PREFIX = "multimodal_io_dict.continuous_audio.model.audio_tower."
CODEC_PREFIX = "multimodal_io_dict.discrete_audio.codec_model."
CODEC = "codec/"
"""Prefix of codec parameters among ours."""
VOCAB_WEIGHT = "vocab_weight"
"""The class weights of the loss, the one float32 tensor; derived from the vocabulary."""


def entries(ours: Shapes, codec: CodecConfig) -> list[Entry]:
    """All tensors but `vocab_weight`. `ours` holds the model's parameters and, under `CODEC`, the codec's."""
    return [
        *qwen3.entries(ours),
        *write_out(TABLE, ours),
        *prefixed(tower.entries(ours), TOWER_PREFIX),
        *prefixed(xcodec.entries(codec), CODEC_PREFIX, CODEC),
    ]


def their_shapes(ours: Shapes, codec: CodecConfig, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the native checkpoint."""
    return shapes_of(entries(ours, codec), ours) | {VOCAB_WEIGHT: (vocabulary.size,)}


def class_weights(vocabulary: Vocabulary) -> np.ndarray:
    """1 for specials and text, 0.125 for codec ids (docs/reference.md, Loss), float32 [V]."""
    weights = np.ones(vocabulary.size, np.float32)
    weights[vocabulary.codec_start :] = CODEC_CLASS_WEIGHT
    return weights
