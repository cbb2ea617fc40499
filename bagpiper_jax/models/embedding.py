"""The sum of the streams' embeddings, and its gradient into one table."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def embed_streams(
    table: Float[Array, "V D"], tokens: Int[Array, "B T S"], dtype: str = "float32"
) -> Float[Array, "B T D"]:
    """Row of stream 0, plus the rows of the other streams whose token is not 0. Row 0 takes no gradient.

    On a mesh each device gathers the table in `dtype` and looks up its own slots: a table divided by width would
    have every device look up the slots of all.
    """
    spec, axes = parallel.table_axes(table)
    total = parallel.per_shard(
        functools.partial(_look_up, axes=axes, dtype=dtype, divided=spec[0]),
        (table, tokens),
        (spec, _slots(tokens)),
        _slots(tokens),
    )
    return parallel.constrain(total, "batch", "slots", "activation")


def _look_up(table, tokens, axes, dtype, divided):
    if axes:
        # The barrier lets the gathered table depend on the tokens of this micro-batch. Without it XLA would gather the
        # table once, before the loop over micro-batches, and hold the whole of it until the last one.
        tokens, table = jax.lax.optimization_barrier((tokens, table))
        table = parallel.gathered(table.astype(dtype), axes)
    first = _first_row(table, divided)

    def rows(token):
        if not divided:
            return table[token].astype(dtype)
        here = (token >= first) & (token < first + len(table))
        return jnp.where(here[..., None], table[jnp.where(here, token - first, 0)], 0).astype(dtype)

    total = rows(tokens[..., 0]).astype(jnp.float32)
    for stream in range(1, tokens.shape[-1]):
        token = tokens[..., stream]
        total += jnp.where(token[..., None] == 0, 0, rows(token))
    return (jax.lax.psum(total, divided) if divided else total).astype(dtype)


def _first_row(table, divided):
    return jax.lax.axis_index(divided) * len(table) if divided else 0


def _forward(table, tokens, dtype):
    return embed_streams(table, tokens, dtype), (table, tokens)


def _backward(dtype, saved, gradient):
    """Adds every stream into one table: autodiff would make one [V, D] gradient per stream and sum them."""
    table, tokens = saved
    spec, axes = parallel.table_axes(table)
    add = functools.partial(_add_rows, rows=_local_rows(table, spec), axes=axes, divided=spec[0])
    slots = parallel.slot_spec(tokens)
    total = parallel.per_shard(add, (tokens, gradient.astype(dtype)), (slots, slots), spec)
    return total.astype(table.dtype), None


def _add_rows(tokens, gradient, rows, axes, divided):
    total = jnp.zeros((rows, gradient.shape[-1]), jnp.float32)
    first = _first_row(total, divided)
    here = (tokens != 0) & (tokens >= first) & (tokens < first + rows)
    # What lies elsewhere is dropped.
    places = jnp.where(here, tokens - first, rows)
    for stream in range(tokens.shape[-1]):
        total = total.at[places[..., stream]].add(gradient.astype(jnp.float32), mode="drop")
    if parallel.mesh_in_use() is None:
        return total
    # A device's sum over its slots is float32; between devices it travels as the layers' gradients do.
    return parallel.scattered_sum(total, axes, parallel.DATA_AXES, gradient.dtype)


def _local_rows(table, spec) -> int:
    mesh = parallel.mesh_in_use()
    return len(table) // mesh.shape[spec[0]] if mesh and spec[0] else len(table)


def _slots(tokens):
    mesh = parallel.mesh_in_use()
    return parallel.partition(mesh, ("batch", "slots", None), tokens.shape) if mesh else None


embed_streams.defvjp(_forward, _backward)
