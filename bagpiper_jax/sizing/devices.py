"""The devices that a plan compiles for, though nobody owns them."""

import dataclasses
import os
from typing import Any

import jax

from bagpiper_jax.errors import Explained
from bagpiper_jax.runs.chips import CHIPS, Chip, Slice

_NO_MACHINE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-256",
}
"""Or libtpu asks the cloud's metadata server about this machine, and complains of it; the topology is what it compiles
for, whatever is said here."""


class PlanError(Explained):
    """A plan that cannot be made here; says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices of a plan.

    Attributes:
        devices: the devices as JAX knows them; virtual CPU devices stand in for GPUs.
        slice: the slice that they make up; None for virtual CPU devices, which stand for nothing else.
        name: the name of the slice.
    """

    devices: list[jax.Device]
    slice: Slice | None
    name: str = ""

    @property
    def chip(self) -> Chip | None:
        return CHIPS[self.slice.kind] if self.slice else None

    @property
    def kind(self) -> str:
        return self.slice.kind if self.slice else self.devices[0].device_kind

    @property
    def compiles(self) -> bool:
        """GPU code is only compiled where a GPU is."""
        return self.slice is None or bool(self.slice.topology)


def tpu_devices(wanted: Slice) -> list[jax.Device]:
    """The devices of a TPU slice, or of several. Raises PlanError: libtpu is absent or does not know it."""
    from jax.experimental import topologies

    for name, value in _NO_MACHINE.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_slices": wanted.slices} if wanted.slices > 1 else {}
    if closed := wanted.torus:
        options["wrap"] = closed
    if wanted.topology.startswith("v4:"):
        options["chip_config_name"] = "megacore"  # both cores of a chip as one device, as jobs on v4 see them
    try:
        return list(topologies.get_topology_desc(wanted.topology, "tpu", **options).devices)
    except Exception as error:  # libtpu reports absence and unknown names in many ways
        raise PlanError(
            f"cannot compile for topology {wanted.topology!r}: {error}. Install libtpu (pip install 'jax[tpu]') and "
            "name a topology as v5e:4x4, v5p:2x2x2 or v6e:16x16; while another process compiles, set "
            "ALLOW_MULTIPLE_LIBTPU_LOAD=true"
        ) from error


def cpu_devices(count: int) -> list[jax.Device]:
    """Virtual CPU devices. Raises PlanError: JAX was started with fewer."""
    available = jax.devices("cpu")
    if len(available) < count:
        raise PlanError(f"{count} CPU devices asked for, {len(available)} there; plan before using JAX")
    return available[:count]


def slice_of(devices: list[jax.Device]) -> list[int]:
    """The slice of every device; 0 where there is only one."""
    return [getattr(device, "slice_index", None) or 0 for device in devices]
