"""Attention kernels by name. A kernel that cannot run where it is asked to is an error, never a fall-back."""

import functools
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bagpiper_jax import parallel

logger = logging.getLogger(__name__)

Query = Float[Array, "B T H K"]
Key = Float[Array, "B U KV K"]
Segments = Int[Array, "B T"]

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


def dot_product(query: Query, key: Key, value: Key, segment_ids: Segments) -> Query:
    """Packed causal attention in plain XLA, on every backend.

    A block of queries meets only the keys before its end: near half the work of the whole square.
    """
    length = query.shape[1]
    block = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    slots = jnp.arange(length)
    outputs = []
    for start in range(0, length, block):
        end = min(start + block, length)
        mask = segment_ids[:, start:end, None] == segment_ids[:, None, :end]
        mask &= slots[start:end, None] >= slots[:end]
        outputs.append(masked_attention(query[:, start:end], key[:, :end], value[:, :end], mask))
    return jnp.concatenate(outputs, axis=1)


def splash(query: Query, key: Key, value: Key, segment_ids: Segments) -> Query:
    """Packed causal attention by the Pallas splash kernel of TPUs, per shard of rows and heads."""
    platform = parallel.platform()
    if platform != "tpu":
        raise RuntimeError(
            f"attention 'splash' runs on TPUs, not on {platform}; set DecoderConfig.attention = 'dot_product'"
        )
    if query.shape[-1] % 128 or query.shape[1] % 128:
        raise ValueError(
            f"attention 'splash' needs head_width and slots in multiples of 128, got head_width {query.shape[-1]}"
            f" and {query.shape[1]} slots"
        )
    heads, keys = ("batch", "slots", "heads"), ("batch", "slots", "kv_heads")
    return parallel.per_shard(
        _splash_shard, (query, key, value, segment_ids), (heads, keys, keys, ("batch", "slots"))
    )


def _splash_shard(query: Query, key: Key, value: Key, segment_ids: Segments) -> Query:
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    _, length, heads, width = query.shape
    causal = splash_attention_mask.CausalMask((length, length))
    kernel = splash_attention_kernel.make_splash_mha_single_device(
        splash_attention_mask.MultiHeadMask([causal] * heads)
    )
    by_head = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
    segments = splash_attention_kernel.SegmentIds(segment_ids, segment_ids)
    scaled = (by_head(query) * width**-0.5).astype(query.dtype)
    return by_head(jax.vmap(kernel)(scaled, by_head(key), by_head(value), segments))


KERNELS: dict[str, Callable[[Query, Key, Key, Segments], Query]] = {
    "dot_product": dot_product,
    "splash": splash,
}
"""Packed causal attention: query [B,T,H,K], key and value [B,T,KV,K], segment_ids [B,T] → [B,T,H,K]."""


@functools.cache
def kernel(name: str) -> Callable[[Query, Key, Key, Segments], Query]:
    """The kernel called `name`, logged once. ValueError for an unknown name."""
    if name not in KERNELS:
        raise ValueError(f"unknown attention kernel {name!r}; choose one of {sorted(KERNELS)}")
    logger.info("decoder attention kernel: %s", name)
    return KERNELS[name]
