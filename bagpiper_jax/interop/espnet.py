"""ESPnet's native checkpoint ↔ our model and codec (reference section 5.1): 1,381 tensors and `vocab_weight`."""

from collections.abc import Iterator, Mapping

import numpy as np

from bagpiper_jax.interop import qwen3, tower, xcodec
from bagpiper_jax.interop.names import (
    MATRIX,
    SAME,
    Entry,
    InterchangeError,
    Shapes,
    check,
    prefixed,
    to_ours,
    to_theirs,
    write_out,
)
from bagpiper_jax.interop.names import their_shapes as shapes_of
from bagpiper_jax.interop.tensors import Tensor
from bagpiper_jax.models.configs import CodecConfig
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


def export(
    parameters: Mapping[str, np.ndarray], codec: CodecConfig, vocabulary: Vocabulary
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and float32 tensor of the native checkpoint, one at a time."""
    shapes = {name: x.shape for name, x in parameters.items()}
    yield from to_theirs(entries(shapes, codec), parameters)
    yield VOCAB_WEIGHT, class_weights(vocabulary)


def import_all(
    tensors: Mapping[str, Tensor], ours: Shapes, codec: CodecConfig, vocabulary: Vocabulary, where: str
) -> dict[str, np.ndarray]:
    """Our parameters of model and codec (the latter under `CODEC`).

    Raises:
        InterchangeError: missing, unknown or misshapen tensors; class weights of another vocabulary layout,
            which once turned a loss of 2.1 into 55.7 without a word (reference section 0.1).
    """
    expected, found = their_shapes(ours, codec, vocabulary), {name: t.shape for name, t in tensors.items()}
    if VOCAB_WEIGHT not in found:  # vLLM's directory drops it
        del expected[VOCAB_WEIGHT]
    check(expected, found, where)
    if VOCAB_WEIGHT in found and not np.array_equal(tensors[VOCAB_WEIGHT].read(), class_weights(vocabulary)):
        raise InterchangeError(
            f"{where}: {VOCAB_WEIGHT} does not have the layout specials | text | codec of this vocabulary; the "
            "checkpoint orders its ids otherwise, or Vocabulary.text_size and codebook_size are not its own"
        )
    return to_ours(entries(ours, codec), lambda name: tensors[name].read(), ours)


def class_weights(vocabulary: Vocabulary) -> np.ndarray:
    """1 for specials and text, 0.125 for codec ids (reference section 0.7), float32 [V]."""
    weights = np.ones(vocabulary.size, np.float32)
    weights[vocabulary.codec_start :] = CODEC_CLASS_WEIGHT
    return weights
