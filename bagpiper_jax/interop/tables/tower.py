"""The Qwen3-Omni audio tower as transformers names it ↔ ours (docs/reference.md, Audio tower)."""

from collections.abc import Iterable

from bagpiper_jax.interop.tables.grammar import IMAGE, MATRIX, MERGE, SAME, Entry, write_out
from bagpiper_jax.models.parameters import Shapes

_LAYER, _OURS = "layers.{l}", "tower/layers"
_PROJECTION = ".self_attn.[q|k|v|out]_proj", "/[query|key|value|output]"

TABLE = (
    ("conv2d[1|2|3].weight", "tower/conv[1|2|3]/kernel", IMAGE),
    ("conv2d[1|2|3].bias", "tower/conv[1|2|3]/bias", SAME),
    ("conv_out.weight", "tower/conv_out", MERGE),
    (_LAYER + _PROJECTION[0] + ".weight", _OURS + _PROJECTION[1] + "/kernel", MATRIX),
    (_LAYER + _PROJECTION[0] + ".bias", _OURS + _PROJECTION[1] + "/bias", SAME),
    (
        _LAYER + ".[self_attn|final]_layer_norm.[weight|bias]",
        _OURS + "/[attention|ffn]_norm/[scale|bias]",
        SAME,
    ),
    (_LAYER + ".fc[1|2].weight", _OURS + "/fc[1|2]/kernel", MATRIX),
    (_LAYER + ".fc[1|2].bias", _OURS + "/fc[1|2]/bias", SAME),
    ("ln_post.[weight|bias]", "tower/norm/[scale|bias]", SAME),
    ("proj[1|2].weight", "tower/proj[1|2]/kernel", MATRIX),
    ("proj[1|2].bias", "tower/proj[1|2]/bias", SAME),
)

FIRST = "conv2d1.weight"
"""A tensor that every tower has."""


def entries(ours: Shapes) -> list[Entry]:
    """The table for a model of these shapes."""
    return write_out(TABLE, ours)


def select(names: Iterable[str]) -> set[str]:
    """The names of a checkpoint that belong to an audio tower under any prefix; those of a bare tower are all."""
    names = list(names)
    prefixes = tuple(name.removesuffix(FIRST) for name in names if name.endswith(FIRST))
    return {name for name in names if name.startswith(prefixes)}
