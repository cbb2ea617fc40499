"""Which rows of a batch each process feeds, and sums over processes."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax.parallel.mesh import MeshError
from bagpiper_jax.parallel.rules import RULES, shards


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over every data axis: the sharding of each leaf of a Batch."""
    return NamedSharding(mesh, P(RULES["batch"]))


def process_share(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which of `count` equal parts of a batch's rows this process feeds.

    Processes whose devices hold the same rows, because a row's tensor shards lie in several, have one index.

    Raises:
        MeshError: the mesh divides rows so that two processes share only some of theirs.
    """
    parts = shards(mesh, "batch")
    held: dict[int, set[int]] = {}
    device: jax.Device
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
