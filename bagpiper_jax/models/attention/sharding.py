"""Attention on a mesh: each device's own rows, queries and heads; where slots are divided it gets all keys."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.errors import Explained

Query = Float[Array, "B T H K"]
Key = Float[Array, "B U KV K"]
Segments = Int[Array, "B T"]


def on_shards(
    kernel: Callable,
    query: Query,
    key: Key,
    value: Key,
    segment_ids: Segments,
    extra: Any = (),
    extra_specs=(),
) -> Query:
    """Runs `kernel` on each device's own rows, queries and heads; where slots are divided it gets all keys.

    Args:
        kernel: (query, key, value, segment_ids of the queries, segment_ids of the keys, *extra) → heads.
        extra, extra_specs: further arguments and how they are divided.
    """
    mesh = parallel.mesh_in_use()
    if mesh is None:
        return kernel(query, key, value, segment_ids, segment_ids, *extra)
    key, value = (_divisible_heads(x, query.shape[2], mesh) for x in (key, value))
    queries = parallel.partition(mesh, ("batch", "slots", "heads"), query.shape, "attention")
    # Heads of keys are divided exactly if those of queries are.
    keys = P(queries[0], None, queries[2])
    specs = (queries, keys, keys, P(*queries[:2]), P(queries[0]), *extra_specs)
    arguments = (query, key, value, segment_ids, segment_ids, *extra)
    return parallel.per_shard(kernel, arguments, specs, queries)


def _divisible_heads(key: Key, heads: int, mesh) -> Key:
    """Keys whose heads divide like those of the queries: repeated, where there are fewer than shards."""
    shards = parallel.shards(mesh, "heads")
    if heads % shards or key.shape[2] % shards == 0:
        return key
    if shards % key.shape[2]:
        raise parallel.MeshError(f"{key.shape[2]} key/value heads do not fit {shards} tensor shards")
    return jnp.repeat(key, shards // key.shape[2], axis=2)


def first_slot(query: Query, key: Key) -> Array | int:
    """Inside `on_shards`: where this device's queries lie in their row."""
    undivided = query.shape[1] == key.shape[1]
    return 0 if undivided else jax.lax.axis_index(parallel.RULES["slots"]) * query.shape[1]


class KernelError(Explained, RuntimeError):
    """An attention kernel that cannot run here; the message says what can."""


def require_platform(kernel: str, wanted: str) -> None:
    """Raises KernelError unless the devices compiled for are of the platform that the kernel is made for."""
    found = parallel.platform()
    if found != wanted:
        raise KernelError(
            f"attention {kernel!r} runs on {wanted.upper()}s, not on {found}; "
            "set DecoderConfig.attention = 'dot_product'"
        )
