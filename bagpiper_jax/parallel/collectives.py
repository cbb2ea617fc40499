"""What XLA cannot partition well runs per shard, with explicit specs and collectives."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from bagpiper_jax.parallel.mesh import MeshError, mesh_in_use
from bagpiper_jax.parallel.rules import MESH_AXES, partition, shards


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to its logical axes on the mesh in use; does nothing without one."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, partition(mesh, axes, x.shape))


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
    whole: jax.Array, axes: tuple[str, ...], others: Collection[str], dimension: int = 1
) -> jax.Array:
    """Inside `per_shard`: the inverse of `gathered` for gradients, summed over `axes` and `others`."""
    if axes:
        whole = jax.lax.psum_scatter(whole, axes, scatter_dimension=dimension, tiled=True)
    rest = tuple(axis for axis in others if axis not in axes)
    return jax.lax.psum(whole, rest) if rest else whole
