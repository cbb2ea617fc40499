"""Packed causal attention by the Pallas splash kernel of TPUs."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax import parallel
from bagpiper_jax.models import layers
from bagpiper_jax.models.attention.sharding import Key, Query, Segments, on_shards, require_platform

BLOCKS = (1024, 512, 256, 128)
"""Sizes of a block of queries or keys; the largest that divides is taken."""


def splash(query: Query, key: Key, value: Key, segment_ids: Segments, interpret: bool = False) -> Query:
    """Packed causal attention that skips blocks in the future, per shard of rows, queries and heads.

    Args:
        query, key, value, segment_ids: [B,T,H,K], [B,T,KV,K] twice, [B,T].
        interpret: runs the kernel's program without a TPU, slowly; for tests.

    Raises:
        KernelError: another platform. ValueError: sizes that the kernel does not take.
    """
    if not interpret:
        require_platform("splash", "tpu")
    mesh = parallel.mesh_in_use()
    slots, head_width, heads = query.shape[1], query.shape[3], query.shape[2]
    parts = parallel.shards(mesh, "slots") if mesh else 1
    if head_width % 128 or slots % (128 * parts):
        raise ValueError(
            f"attention 'splash' needs head_width and each shard's slots in multiples of 128, got head_width "
            f"{head_width} and {slots} slots in {parts} shards"
        )
    head_parts = parallel.shards(mesh, "heads") if mesh and heads % parallel.shards(mesh, "heads") == 0 else 1
    kernel = _kernel(slots, heads, head_parts, parts, interpret)
    spec = None
    if mesh:
        divided = P("tensor" if head_parts > 1 else None, "sequence" if parts > 1 else None)
        spec = kernel.manual_sharding_spec(NamedSharding(mesh, divided))
    return on_shards(_shard, query, key, value, segment_ids, (kernel,), (spec,))


def _kernel(slots: int, heads: int, head_parts: int, slot_parts: int, interpret: bool):
    from jax.experimental.pallas.ops.tpu import splash_attention

    queries = _block(slots // slot_parts)
    keys = _block(slots)
    sizes = splash_attention.BlockSizes(
        block_q=queries, block_kv=keys, block_q_dkv=queries, block_kv_dkv=keys, block_kv_dkv_compute=keys,
        # One backward kernel, which computes the scores once, not twice.
        use_fused_bwd_kernel=True,
    )  # fmt: skip
    causal = splash_attention.CausalMask((slots, slots), shard_count=slot_parts)
    return splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([causal] * heads),
        block_sizes=sizes,
        head_shards=head_parts,
        q_seq_shards=slot_parts,
        residual_checkpoint_name=layers.ATTENTION,
        interpret=interpret,
    )


def _block(slots: int) -> int:
    return next(size for size in BLOCKS if slots % size == 0)


def _shard(query: Query, key: Key, value: Key, segments: Segments, seen: Segments, kernel) -> Query:
    from jax.experimental.pallas.ops.tpu import splash_attention

    by_head = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
    scaled = (by_head(query) * query.shape[3] ** -0.5).astype(query.dtype)
    ids = splash_attention.SegmentIds(segments, seen)
    return by_head(jax.vmap(kernel)(scaled, by_head(key), by_head(value), ids))
