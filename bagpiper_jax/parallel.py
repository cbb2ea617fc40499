"""The mesh, and ONE table that says which mesh axis each named axis of a parameter or activation lives on.

Mesh axes are Auto: XLA propagates shardings from the parameters, the batch and the few `constrain` calls. The same
code runs on one device (no mesh set) and on any mesh (`with jax.set_mesh(make_mesh(config))`).
"""

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

logger = logging.getLogger(__name__)

MESH_AXES = ("replica", "fsdp", "tensor")

RULES: dict[str | None, str | tuple[str, ...] | None] = {
    "batch": ("replica", "fsdp"),
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "slots": None,
    "activation": None,
    None: None,
}
"""Logical axis → mesh axis. `embed` is a parameter's model width, `activation` an activation's."""

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


class MeshError(ValueError):
    """A mesh that does not fit the devices, the processes or the batch; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices per mesh axis; one of them may be -1, which takes what the others leave.

    Attributes:
        replica: copies of the parameters, for data parallelism between slices.
        fsdp: shards of rows, parameters and optimizer.
        tensor: shards of heads, feed-forward and vocabulary.
    """

    replica: int = 1
    fsdp: int = -1
    tensor: int = 1


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (all of them by default). MeshError if the axes do not fit their number."""
    devices = jax.devices() if devices is None else devices
    sizes = [config.replica, config.fsdp, config.tensor]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = len(devices) // -math.prod(sizes)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise MeshError(
            f"{config} does not fit {len(devices)} devices; the product of its axes must be their number"
        )
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


def partition(mesh: Mesh | Any, axes: Sequence[str | None], shape: Sequence[int], what: str = "") -> P:
    """The mesh axes of logical `axes`; an axis that does not divide stays whole (logged if `what` names it)."""
    chosen = []
    for name, size in zip(axes, shape, strict=False):
        target = RULES[name]
        shards = math.prod(
            mesh.shape[axis] for axis in ((target,) if isinstance(target, str) else target or ())
        )
        if size % shards and what:
            logger.warning(
                "%s: axis %r of %d does not divide by %d shards, kept whole", what, name, size, shards
            )
        chosen.append(target if shards > 1 and size % shards == 0 else None)
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
    shards, held = _data_shards(mesh), {}
    for device, (part,) in batch_sharding(mesh).devices_indices_map((shards,)).items():
        held.setdefault(device.process_index, set()).add(part.indices(shards)[0])
    shares = sorted(map(sorted, {frozenset(rows) for rows in held.values()}))
    if sum(map(len, shares)) != shards or len(set(map(len, shares))) != 1:
        raise MeshError(
            f"mesh {dict(mesh.shape)} gives processes overlapping or unequal rows ({shares}); choose `tensor` so "
            "that it divides the devices of a process, or is a multiple of them"
        )
    return shares.index(sorted(held[jax.process_index()])), len(shares)


def global_sum(mesh: Mesh, local: np.ndarray) -> np.ndarray:
    """Sums what each process counted in its own rows; rows that several processes hold count once.

    Among several processes the sum is made in 32 bits, on the devices.
    """
    if jax.process_count() == 1:
        return local
    mine = np.zeros((_data_shards(mesh) // process_share(mesh)[1], *local.shape), local.dtype)
    mine[0] = local
    mine = mine.astype(np.int32 if mine.dtype.kind == "i" else np.float32)
    parts = jax.make_array_from_process_local_data(batch_sharding(mesh), mine)
    add = jax.jit(lambda x: x.sum(axis=0), out_shardings=NamedSharding(mesh, P()))
    return np.asarray(add(parts))


def _data_shards(mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in RULES["batch"])


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to its logical axes on the mesh in use; does nothing without one."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, partition(mesh, axes, x.shape))


def per_shard(
    function: Callable, arguments: Sequence[jax.Array], axes: Sequence[tuple[str | None, ...]]
) -> jax.Array:
    """Runs `function` on each device's own part, for kernels XLA cannot partition. The result has `axes[0]`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(*arguments)
    specs = tuple(
        partition(mesh, names, x.shape, function.__name__) for names, x in zip(axes, arguments, strict=True)
    )
    return jax.shard_map(function, in_specs=specs, out_specs=specs[0], check_vma=False)(*arguments)


def platform() -> str:
    """The platform compiled for: that of the mesh in use (which may be a topology nobody owns), else the default."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return device.platform if getattr(device, "platform", None) else jax.default_backend()
