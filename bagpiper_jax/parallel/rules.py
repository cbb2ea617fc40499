"""ONE table that says which mesh axes each named axis of a parameter or activation lives on."""

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

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
    "change": ("tensor", "fsdp", "sequence"),
    "activation": (),
    None: (),
}
"""Logical axis → mesh axes. `embed` is a parameter's model width, `activation` an activation's, `change` the heads or
the feed-forward width of an adapter's matrices, which have no model width that would be divided beside it."""

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
    # Of adapters: a is [.., inputs, rank], b [.., rank, outputs].
    ("lora/decoder/layers/(attention/(query|key|value)|ffn/(gate|up))/a", (None, "embed", None)),
    ("lora/decoder/layers/(attention/(query|key|value)|ffn/(gate|up))/b", (None, None, "change")),
    ("lora/decoder/layers/(attention/output|ffn/down)/a", (None, "change", None)),
    ("lora/decoder/layers/(attention/output|ffn/down)/b", (None, None, "embed")),
    ("lora/(adaptor/kernel|stream_emb)/a", ()),
    ("lora/(adaptor/kernel|stream_emb)/b", (None, "embed")),
    (".*(norm|bias|scale)", ()),
)
"""Parameter path → logical axes, the first match counts. It matches the end of a path, so that optimizer moments
(`…/mu/decoder/norm`) are sharded as their parameters are; so are the `/values` of matrices in int8. Missing trailing
axes are not sharded."""


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
        if re.search(f"(^|/)({pattern})(/values)?$", name):
            return axes
    if rank > 1:
        logger.warning("%s: no rule in PARAMETER_AXES, replicated", name)
    return ()
