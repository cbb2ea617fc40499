"""Packed causal attention by the flash kernels of NVIDIA GPUs."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from bagpiper_jax.models.attention.sharding import (
    KernelError,
    Key,
    Query,
    Segments,
    first_slot,
    on_shards,
    require_platform,
)


def tokamax(query: Query, key: Key, value: Key, segment_ids: Segments, implementation: str) -> Query:
    """A kernel of the tokamax library, which skips blocks in the future and of other documents.

    Args:
        query, key, value, segment_ids: [B,T,H,K], [B,T,KV,K] twice, [B,T].
        implementation: "mosaic" for Hopper and Blackwell, "triton" for older GPUs.

    Raises:
        KernelError: another platform, tokamax is not installed, or the kernel refuses these sizes or this GPU.
        ValueError: a mesh that divides slots.
    """
    require_platform(implementation, "gpu")
    return on_shards(functools.partial(tokamax_shard, implementation), query, key, value, segment_ids)


def tokamax_shard(
    implementation, query: Query, key: Key, value: Key, segments: Segments, seen: Segments
) -> Query:
    """As `tokamax`, on one device; its plain implementation "xla" runs everywhere."""
    if query.shape[1] != key.shape[1]:
        raise ValueError(
            f"attention {implementation!r} cannot divide a row; set mesh.sequence = 1 or use 'cudnn'"
        )
    try:
        from tokamax import dot_product_attention
    except ImportError as error:
        raise KernelError(needs_tokamax(implementation)) from error
    # A window that ends at the slot itself and begins with its document: tokamax turns it into bounds of the
    # keys of each query, whole blocks outside of which its kernels skip.
    before = (jnp.arange(query.shape[1]) - document_starts(segments))[:, None]
    try:
        return dot_product_attention(
            query, key, value, is_causal=True, local_window_size=(before, 0), implementation=implementation
        )
    except NotImplementedError as error:
        raise KernelError(f"attention {implementation!r} does not run here: {error}") from error


def needs_tokamax(implementation: str) -> str:
    return f"attention {implementation!r} needs tokamax: pip install 'bagpiper_jax[gpu]'"


def document_starts(segments: Segments) -> Int[Array, "B T"]:
    """The first slot of each slot's document."""
    slots = jnp.arange(segments.shape[1])
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return jax.lax.cummax(jnp.where(begins, slots, 0), axis=1)


def cudnn(query: Query, key: Key, value: Key, segment_ids: Segments) -> Query:
    """cuDNN's kernel. Documents are kept apart by a mask [B,1,T,T], which it reads whole.

    Raises:
        KernelError: another platform, or cuDNN refuses these sizes or this GPU.
    """
    require_platform("cudnn", "gpu")
    return on_shards(functools.partial(masked_shard, "cudnn"), query, key, value, segment_ids)


def masked_shard(
    implementation, query: Query, key: Key, value: Key, segments: Segments, seen: Segments
) -> Query:
    """As `cudnn`, on one device; the implementation "xla" runs everywhere."""
    mask = _causal(query, key) & (segments[:, :, None] == seen[:, None, :])
    try:
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask[:, None], implementation=implementation
        )
    except (NotImplementedError, ValueError) as error:
        raise KernelError(f"attention {implementation!r} does not run here: {error}") from error


def _causal(query: Query, key: Key) -> Bool[Array, "T U"]:
    slots = jnp.arange(key.shape[1])
    return first_slot(query, key) + slots[: query.shape[1], None] >= slots
