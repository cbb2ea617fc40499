"""Attention in plain XLA, on every backend: inside windows for the tower, causal in packed rows for the decoder."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from bagpiper_jax.models.attention.sharding import Key, Query, Segments, first_slot, on_shards

MIN_BLOCK, MAX_BLOCKS = 128, 8
"""Queries per block of `dot_product`, and how many blocks are unrolled at most."""

_HIDDEN = -1e30  # finite: a row that sees nothing stays finite too


def masked_attention(query: Query, key: Key, value: Key, mask: Bool[Array, "B T U"]) -> Query:
    """Grouped-query attention where `mask` allows; scores and softmax in float32.

    A query that may see nothing gets a mean of all values: finite, and to be ignored.
    """
    batch, length, heads, width = query.shape
    # Queries of one key/value head side by side: each head's scores are then one matrix product.
    grouped = query.reshape(batch, length, key.shape[2], -1, width).transpose(0, 2, 3, 1, 4) * width**-0.5
    scores = jnp.einsum("bnqk,bunk->bnqu", _merge(grouped), key, preferred_element_type=jnp.float32)
    scores = scores.reshape(*grouped.shape[:4], -1) + jnp.where(mask, 0, _HIDDEN)[:, None, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    values = jnp.einsum(
        "bnqu,bunk->bnqk", _merge(weights.astype(value.dtype)), value, preferred_element_type=jnp.float32
    )
    output = (values.reshape(grouped.shape) / total).astype(query.dtype)
    return output.transpose(0, 3, 1, 2, 4).reshape(query.shape)


def _merge(x: Array) -> Array:
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def windowed(query: Query, key: Key, value: Key, windows: Segments, heard: Segments, span: int) -> Query:
    """Bidirectional attention inside windows, in products of blocks: work grows with the row, not with its square.

    Args:
        query, key, value: [B, T, H, K].
        windows: [B, T] window of each slot; those of one window lie within `span` consecutive slots.
        heard: [B, T] the same for keys, and another number where a slot must not be heard.
        span: length of a block. A window touches at most two neighbouring blocks.
    """
    length = query.shape[1]
    blocks = -(-length // span)
    if blocks <= 3:
        return masked_attention(query, key, value, windows[:, :, None] == heard[:, None, :])

    def split(x, beyond=0):
        pad = [(0, 0), (0, blocks * span - length)] + [(0, 0)] * (x.ndim - 2)
        return jnp.pad(x, pad, constant_values=beyond).reshape(x.shape[0], blocks, span, *x.shape[2:])

    def with_neighbours(x, beyond=0):
        x = jnp.pad(x, [(0, 0), (1, 1)] + [(0, 0)] * (x.ndim - 2), constant_values=beyond)
        return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)

    key, value = (with_neighbours(split(x)) for x in (key, value))
    mask = split(windows)[..., :, None] == with_neighbours(split(heard, -1), -1)[..., None, :]
    found = jax.vmap(masked_attention, 1, 1)(split(query), key, value, mask)
    return found.reshape(query.shape[0], blocks * span, *query.shape[2:])[:, :length]


def dot_product(query: Query, key: Key, value: Key, segment_ids: Segments) -> Query:
    """Packed causal attention in plain XLA, on every backend.

    A block of queries meets only the keys before its end: near half the work of the whole square.
    """
    return on_shards(_dot_product_shard, query, key, value, segment_ids)


def _dot_product_shard(query: Query, key: Key, value: Key, segments: Segments, seen: Segments) -> Query:
    length, first = query.shape[1], first_slot(query, key)
    block = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    slots = jnp.arange(key.shape[1])
    outputs = []
    for start in range(0, length, block):
        end = min(start + block, length)
        keys = end if length == key.shape[1] else key.shape[1]
        mask = segments[:, start:end, None] == seen[:, None, :keys]
        mask &= first + slots[start:end, None] >= slots[:keys]
        outputs.append(masked_attention(query[:, start:end], key[:, :keys], value[:, :keys], mask))
    return jnp.concatenate(outputs, axis=1)
