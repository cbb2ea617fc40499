"""The mesh, and ONE table that says which mesh axes each named axis of a parameter or activation lives on.

Mesh axes are Auto: XLA propagates shardings from the parameters, the batch and the few `constrain` calls. What XLA
cannot partition well (attention kernels, the loss) runs per shard with explicit specs. The same code runs on one
device (no mesh set) and on any mesh (`with jax.set_mesh(make_mesh(config))`).
"""

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax.errors import Explained

logger = logging.getLogger(__name__)

MESH_AXES = ("replica", "fsdp", "sequence", "tensor")
DATA_AXES = MESH_AXES[:3]
"""The axes that divide slots, among which gradients are summed."""

RULES: dict[str | None, tuple[str, ...]] = {
    "batch": ("replica", "fsdp"),
    "slots": ("sequence",),
    "vocab": ("tensor",),
    "embed": ("fsdp", "sequence"),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    "activation": (),
    None: (),
}
"""Logical axis → mesh axes. `embed` is a parameter's model width, `activation` an activation's."""

PARAMETER_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    ("decoder/embed_tokens|lm_head", ("vocab", "embed")),
    ("stream_emb", (None, "embed")),
    ("decoder/layers/attention/query", (None, "embed", "heads", None)),
    ("decoder/layers/attention/(key|value)", (None, "embed", "kv_heads", None)),
    ("decoder/layers/attention/output", (None, "heads", None, "embed")),
    ("decoder/layers/ffn/(gate|up)", (None, "embed", "mlp")),
    ("decoder/layers/ffn/down", (None, "mlp", "embed")),
    ("tower/layers/(query|key|value)/kernel", (None, "embed", "heads")),
    ("tower/layers/output/kernel", (None, "heads", "embed")),
    ("tower/layers/fc1/kernel", (None, "embed", "mlp")),
    ("tower/layers/fc2/kernel", (None, "mlp", "embed")),
    ("tower/conv./kernel", (None, None, None, "embed")),
    ("tower/conv_out", (None, None, "embed")),
    ("(adaptor|tower/proj.)/kernel", (None, "embed")),
    (".*(norm|bias|scale)", ()),
)
"""Parameter path → logical axes, the first match counts. It matches the end of a path, so that optimizer moments
(`…/mu/decoder/norm`) are sharded as their parameters are. Missing trailing axes are not sharded."""


class MeshError(Explained, ValueError):
    """A mesh that does not fit the devices, the processes or the batch; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices per mesh axis; one of them may be -1, which takes what the others leave.

    Attributes:
        replica: copies of the parameters, for data parallelism between slices; a multiple of the number of slices.
        fsdp: shards of rows, parameters and optimizer.
        sequence: shards of a row's slots, for rows too long for one device; they shard parameters as well.
        tensor: shards of heads, feed-forward and vocabulary.
    """

    replica: int = 1
    fsdp: int = -1
    sequence: int = 1
    tensor: int = 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """In the order of `MESH_AXES`."""
        return tuple(getattr(self, axis) for axis in MESH_AXES)


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (all of them by default); of several TPU slices, `replica` spans the slices.

    Raises:
        MeshError: the axes do not fit the number of devices, or `replica` that of slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = list(config.sizes)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = len(devices) // -math.prod(sizes)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise MeshError(
            f"{config} does not fit {len(devices)} devices; the product of its axes must be their number"
        )
    auto = (AxisType.Auto,) * len(sizes)
    slices = _slices(devices)
    if slices == 1:
        try:
            return jax.make_mesh(sizes, MESH_AXES, axis_types=auto, devices=devices)
        except NotImplementedError:
            # An axis shorter than those of the torus, as tensor 2 on 4x4x4, lies along a part of one.
            grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
            return Mesh(grid, MESH_AXES, axis_types=auto)
    if sizes[0] % slices:
        raise MeshError(
            f"replica {sizes[0]} is no multiple of the {slices} slices; only it may cross the network between them"
        )
    between = (slices,) + (1,) * (len(sizes) - 1)
    within = (sizes[0] // slices, *sizes[1:])
    arrange = functools.partial(mesh_utils.create_hybrid_device_mesh, within, between, devices)
    try:
        grid = arrange()
    except NotImplementedError:
        grid = arrange(allow_split_physical_axes=True)
    return Mesh(grid, MESH_AXES, axis_types=auto)


def _slices(devices: Sequence[jax.Device]) -> int:
    """Of TPUs. GPU hosts are joined by a network fast enough for fsdp."""
    if devices[0].platform != "tpu":
        return 1
    # A topology of one slice leaves the attribute out.
    return len({getattr(device, "slice_index", 0) for device in devices})


def shards(mesh: Mesh | AbstractMesh, axis: str | None) -> int:
    """How many parts of a logical axis the mesh makes."""
    return math.prod(mesh.shape[name] for name in RULES[axis])


def partition(
    mesh: Mesh | AbstractMesh, axes: Sequence[str | None], shape: Sequence[int], what: str = ""
) -> P:
    """The mesh axes of logical `axes`; an axis that does not divide stays whole (logged if `what` names it)."""
    chosen: list[Any] = []
    for name, size in zip(axes, shape, strict=False):
        parts = shards(mesh, name)
        if size % parts and what:
            logger.warning(
                "%s: axis %r of %d does not divide by %d shards, kept whole", what, name, size, parts
            )
        used = tuple(axis for axis in RULES[name] if mesh.shape[axis] > 1 and size % parts == 0)
        chosen.append(used[0] if len(used) == 1 else used or None)
    return P(*chosen)


def parameter_sharding(mesh: Mesh, parameters: Any) -> Any:
    """The sharding of every leaf of a tree of parameters or optimizer moments, arrays or ShapeDtypeStructs.

    Leaves are known by their path (`PARAMETER_AXES`); scalars and unknown leaves are replicated, the latter with
    a warning.
    """

    def sharding(path, leaf) -> NamedSharding:
        name = parameter_path(path)
        return NamedSharding(mesh, partition(mesh, _axes_of(name, leaf.ndim), leaf.shape, name))

    return jax.tree.map_with_path(sharding, parameters)


def parameter_path(path: tuple) -> str:
    """A key path as `decoder/layers/ffn/up`, whether its leaves are NNX variables or plain arrays."""
    is_variable = path and getattr(path[-1], "name", None) == "value"  # a parameter may be called "value" too
    return jax.tree_util.keystr(path[:-1] if is_variable else path, simple=True, separator="/")


def _axes_of(name: str, rank: int) -> tuple[str | None, ...]:
    for pattern, axes in PARAMETER_AXES:
        if re.search(f"(^|/)({pattern})$", name):
            return axes
    if rank > 1:
        logger.warning("%s: no rule in PARAMETER_AXES, replicated", name)
    return ()


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over every data axis: the sharding of each leaf of a Batch."""
    return NamedSharding(mesh, P(RULES["batch"]))


def process_share(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which of `count` equal parts of a batch's rows this process feeds.

    Processes whose devices hold the same rows, because a row's tensor shards lie in several, have one index.

    Raises:
        MeshError: the mesh divides rows so that two processes share only some of theirs.
    """
    parts, held = shards(mesh, "batch"), {}
    for device, (part,) in batch_sharding(mesh).devices_indices_map((parts,)).items():
        held.setdefault(device.process_index, set()).add(part.indices(parts)[0])
    shares = sorted(map(sorted, {frozenset(rows) for rows in held.values()}))
    if sum(map(len, shares)) != parts or len(set(map(len, shares))) != 1:
        raise MeshError(
            f"mesh {dict(mesh.shape)} gives processes overlapping or unequal rows ({shares}); choose `tensor` "
            "and `sequence` so that their product divides the devices of a process, or is a multiple of them"
        )
    return shares.index(sorted(held[jax.process_index()])), len(shares)


def global_sum(mesh: Mesh, local: np.ndarray) -> np.ndarray:
    """Sums what each process counted in its own rows; rows that several processes hold count once.

    Among several processes the sum is made in 32 bits, on the devices.
    """
    if jax.process_count() == 1:
        return local
    rows = shards(mesh, "batch") // process_share(mesh)[1]
    mine = np.zeros((rows, *local.shape), local.dtype)
    mine[0] = local
    mine = mine.astype(np.int32 if mine.dtype.kind == "i" else np.float32)
    parts = jax.make_array_from_process_local_data(batch_sharding(mesh), mine)
    add = jax.jit(lambda x: x.sum(axis=0), out_shardings=NamedSharding(mesh, P()))
    return np.asarray(add(parts))


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


def mesh_in_use() -> AbstractMesh | None:
    """The mesh that is set, if it has more than one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


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


def platform() -> str:
    """The platform compiled for: that of the mesh in use (which may be a topology nobody owns), else the default."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return device.platform if getattr(device, "platform", None) else jax.default_backend()
