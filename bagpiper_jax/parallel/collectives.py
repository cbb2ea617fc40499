"""What XLA cannot partition well runs per shard, with explicit specs and collectives."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from bagpiper_jax.parallel.mesh import MeshError, mesh_in_use, platform
from bagpiper_jax.parallel.rules import MESH_AXES, partition, shards


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to its logical axes on the mesh in use; does nothing without one."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, partition(mesh, axes, x.shape))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def whole_width(matrix: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A matrix of logical `axes` whose model width every device has whole; its gradient is divided as the matrix is.

    XLA left to itself gathers a matrix of more than two axes once for each product that it meets in the backward pass.
    """
    return constrain(matrix, *(None if axis == "embed" else axis for axis in axes))


def _whole_width_forward(matrix, axes):
    return whole_width(matrix, axes), None


def _whole_width_backward(axes, _, gradient):
    return (constrain(gradient, *axes),)


whole_width.defvjp(_whole_width_forward, _whole_width_backward)


def per_shard(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    specs: Sequence[Any],
    out_specs: Any,
    axis_names: Collection[str] = MESH_AXES,
) -> Any:
    """Runs `function` on each device's own part, with explicit specs and collectives.

    On one device, or without a mesh, that is the function itself. XLA partitions axes not in `axis_names`.
    """
    if not mesh_in_use():
        return function(*arguments)
    mapped = jax.shard_map(
        function, in_specs=tuple(specs), out_specs=out_specs, axis_names=set(axis_names), check_vma=False
    )
    return mapped(*arguments)


def slot_spec(x: jax.Array) -> P | None:
    """How an activation [B, T, …] is divided on the mesh in use; None without one.

    Raises:
        MeshError: rows or slots do not divide, so that some would count several times.
    """
    mesh = mesh_in_use()
    if mesh is None:
        return None
    for axis, size in zip(("batch", "slots"), x.shape, strict=False):
        if size % shards(mesh, axis):
            raise MeshError(f"{axis} of {size} does not divide by {shards(mesh, axis)} shards of the mesh")
    return partition(mesh, ("batch", "slots"), x.shape)


def table_axes(table: jax.Array) -> tuple[P, tuple[str, ...]]:
    """How a table [V, D] is divided on the mesh in use: its spec, and the mesh axes that divide D."""
    mesh = mesh_in_use()
    spec = partition(mesh, ("vocab", "embed"), table.shape) if mesh else P(None, None)
    return spec, spec[1] if isinstance(spec[1], tuple) else (spec[1],) if spec[1] else ()


def gathered(part: jax.Array, axes: tuple[str, ...], dimension: int = 1) -> jax.Array:
    """Inside `per_shard`: the whole width of a table of which this device holds a part along `dimension`."""
    return jax.lax.all_gather(part, axes, axis=dimension, tiled=True) if axes else part


def scattered_sum(
    whole: jax.Array, axes: tuple[str, ...], others: Collection[str], dtype: jnp.dtype, dimension: int = 1
) -> jax.Array:
    """Inside `per_shard`: the inverse of `gathered` for gradients, summed over `axes` and `others`.

    Args:
        whole: this device's own sum, in float32.
        dtype: what it is rounded to before it is sent.
    """
    whole = _rounded(whole, dtype)
    if axes:
        whole = jax.lax.psum_scatter(whole, axes, scatter_dimension=dimension, tiled=True)
    rest = tuple(axis for axis in others if axis not in axes)
    whole = jax.lax.psum(whole, rest) if rest else whole
    # Some libtpus fail on a sum that is converted, then added to that of the next micro-batch. Here they see no sum.
    return jax.lax.optimization_barrier(whole)


def _rounded(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`x` in `dtype`; on CPUs, whose compiler aborts on such sums of 16 bits, float32 carries the same numbers."""
    if platform() != "cpu" or x.dtype == dtype:
        return x.astype(dtype)
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)
