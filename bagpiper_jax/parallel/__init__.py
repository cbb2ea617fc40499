"""The mesh, the one table of logical-axis rules, and helpers that run per shard.

The same code runs on one device (no mesh set) and on any mesh (`with jax.set_mesh(make_mesh(config))`).
"""

from bagpiper_jax.parallel.collectives import (
    constrain,
    gathered,
    per_shard,
    scattered_sum,
    slot_spec,
    table_axes,
    whole_width,
)
from bagpiper_jax.parallel.mesh import (
    MeshConfig,
    MeshError,
    make_mesh,
    mesh_in_use,
    mesh_of,
    platform,
    require_devices,
)
from bagpiper_jax.parallel.processes import batch_sharding, global_sum, process_share
from bagpiper_jax.parallel.rules import (
    DATA_AXES,
    MESH_AXES,
    PARAMETER_AXES,
    RULES,
    parameter_path,
    parameter_sharding,
    partition,
    shards,
)

__all__ = [
    "DATA_AXES",
    "MESH_AXES",
    "MeshConfig",
    "MeshError",
    "PARAMETER_AXES",
    "RULES",
    "batch_sharding",
    "constrain",
    "gathered",
    "global_sum",
    "make_mesh",
    "mesh_in_use",
    "mesh_of",
    "parameter_path",
    "parameter_sharding",
    "partition",
    "per_shard",
    "platform",
    "process_share",
    "require_devices",
    "scattered_sum",
    "shards",
    "slot_spec",
    "table_axes",
    "whole_width",
]
