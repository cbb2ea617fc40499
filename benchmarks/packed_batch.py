"""A batch as packing makes them, of random tokens: no cache, no corpus."""

import dataclasses

import jax
import numpy as np

from bagpiper_jax.batch import Batch
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.step import batch_shapes
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT

DOCUMENT_SLOTS = 128
CHUNK_TOKENS = 13


def random_batch(config: TrainConfig) -> Batch:
    """Documents of 128 slots, half text, half codec frames.

    The audio chunks of a row are one clip, of which the text half of the row's first document hears what it can.
    """
    vocabulary, rng = config.model.vocabulary, np.random.default_rng(0)
    empty = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), batch_shapes(config.batch, vocabulary.num_streams)
    )
    rows, slots = empty.segment_ids.shape
    chunks = empty.chunk_frames.shape[1]
    place = np.arange(slots) % DOCUMENT_SLOTS
    is_codec = np.tile(place >= DOCUMENT_SLOTS // 2, (rows, 1))
    tokens = empty.tokens.copy()
    tokens[..., 0] = rng.integers(vocabulary.text_start, vocabulary.codec_start, (rows, slots))
    codes = rng.integers(0, vocabulary.codebook_size, (is_codec.sum(), vocabulary.num_streams))
    tokens[is_codec] = vocabulary.codes_to_ids(codes)
    heard = np.full(slots, -1, np.int32)
    count = min(DOCUMENT_SLOTS // 2, chunks * CHUNK_TOKENS)
    heard[:count] = np.arange(count)
    tokens[:, heard >= 0] = 0
    return dataclasses.replace(
        empty,
        tokens=tokens,
        loss_weights=_weights(tokens, vocabulary.codec_start),
        segment_ids=np.tile(np.arange(slots) // DOCUMENT_SLOTS + 1, (rows, 1)).astype(np.int32),
        positions=np.tile(place, (rows, 1)).astype(np.int32),
        mel=rng.standard_normal(empty.mel.shape).astype(np.float32),
        chunk_frames=np.full_like(empty.chunk_frames, 100),
        chunk_clip=np.ones_like(empty.chunk_clip),
        chunk_window=np.tile(
            np.arange(chunks, dtype=np.int32) // config.model.tower.window_chunks + 1, (rows, 1)
        ),
        audio_slot=np.tile(heard, (rows, 1)),
    )


def _weights(tokens: np.ndarray, codec_start: int) -> np.ndarray:
    return np.where(tokens >= codec_start, CODEC_CLASS_WEIGHT, tokens > 0).astype(np.float32)
