"""The mesh: which device stands where.

Its axes are Auto: XLA propagates shardings from the parameters, the batch and the few `constrain` calls.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from bagpiper_jax.errors import Explained
from bagpiper_jax.parallel.rules import MESH_AXES


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


def require_devices() -> None:
    """Starts JAX's backend. Raises MeshError, with what the platform says, if it does not start."""
    try:
        jax.devices()
    except RuntimeError as error:
        raise MeshError(
            f"JAX finds no device: {error}. JAX_PLATFORMS names the platforms to use; cpu is always there"
        ) from error


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


def mesh_in_use() -> AbstractMesh | None:
    """The mesh that is set, if it has more than one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def mesh_of(arrays: Iterable[jax.Array]) -> Mesh | None:
    """The mesh that arrays lie on, if it has more than one device."""
    shardings = (getattr(array, "sharding", None) for array in arrays)  # arrays of numpy lie on none
    found = {sharding.mesh for sharding in shardings if isinstance(sharding, NamedSharding)}
    return next((mesh for mesh in found if isinstance(mesh, Mesh) and mesh.size > 1), None)


def platform() -> str:
    """The platform compiled for: that of the mesh in use (which may be a topology nobody owns), else the default."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return getattr(device, "platform", None) or jax.default_backend()
