"""ESPnet's native checkpoint ↔ our model and codec: 1,381 tensors and `vocab_weight`.

See docs/reference.md, Native checkpoint.
"""

import logging
from collections.abc import Mapping

import numpy as np

from bagpiper_jax.interop.fillings import Fillings, from_tensors
from bagpiper_jax.interop.formats.tensors import Tensor, require_floats
from bagpiper_jax.interop.tables import qwen3, tower, xcodec
from bagpiper_jax.interop.tables.grammar import (
    MATRIX,
    SAME,
    Entry,
    InterchangeError,
    Shapes,
    check,
    prefixed,
    write_out,
)
from bagpiper_jax.interop.tables.grammar import their_shapes as shapes_of
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT, Vocabulary

logger = logging.getLogger(__name__)

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


def import_all(
    tensors: Mapping[str, Tensor], ours: Shapes, codec: CodecConfig, vocabulary: Vocabulary, where: str
) -> Fillings:
    """Our parameters of model and codec (the latter under `CODEC`, and absent if the checkpoint has no codec).

    Raises:
        InterchangeError: missing, unknown or misshapen tensors; class weights of another vocabulary layout,
            which once turned a loss of 2.1 into 55.7 without a word (docs/reference.md, Token layout).
    """
    table = entries(ours, codec)
    if not any(name.startswith(CODEC_PREFIX) for name in tensors):
        logger.warning(
            "%s holds no codec; audio cannot be generated, nor a native checkpoint exported", where
        )
        table = [entry for entry in table if not entry.ours.startswith(CODEC)]
    expected, found = shapes_of(table, ours), {name: t.shape for name, t in tensors.items()}
    if VOCAB_WEIGHT in found:  # vLLM's directory drops it
        expected[VOCAB_WEIGHT] = (vocabulary.size,)
    check(expected, found, where)
    require_floats(tensors, where)
    if VOCAB_WEIGHT in found and not np.array_equal(tensors[VOCAB_WEIGHT].read(), class_weights(vocabulary)):
        raise InterchangeError(
            f"{where}: {VOCAB_WEIGHT} does not have the layout specials | text | codec of this vocabulary; the "
            "checkpoint orders its ids otherwise, or Vocabulary.text_size and codebook_size are not its own"
        )
    return from_tensors(table, tensors)


def class_weights(vocabulary: Vocabulary) -> np.ndarray:
    """1 for specials and text, 0.125 for codec ids (docs/reference.md, Class weights), float32 [V]."""
    weights = np.ones(vocabulary.size, np.float32)
    weights[vocabulary.codec_start :] = CODEC_CLASS_WEIGHT
    return weights
