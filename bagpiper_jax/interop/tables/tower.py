"""The Qwen3-Omni audio tower as transformers names it ↔ ours (docs/reference.md, Audio tower)."""

from collections.abc import Iterable, Mapping

from bagpiper_jax.interop.fillings import Fillings, from_tensors
from bagpiper_jax.interop.formats.tensors import Tensor, require_floats
from bagpiper_jax.interop.tables.grammar import (
    IMAGE,
    MATRIX,
    MERGE,
    SAME,
    InterchangeError,
    Shapes,
    TableEntry,
    check,
    their_shapes,
    write_out,
)

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

_FIRST = "conv2d1.weight"


def entries(ours: Shapes) -> list[TableEntry]:
    return write_out(TABLE, ours)


def select(names: Iterable[str]) -> set[str]:
    """The names of a checkpoint that belong to an audio tower under any prefix; those of a bare tower are all."""
    names = list(names)
    prefixes = tuple(name.removesuffix(_FIRST) for name in names if name.endswith(_FIRST))
    return {name for name in names if name.startswith(prefixes)}


def import_tower(tensors: Mapping[str, Tensor], ours: Shapes, where: str) -> Fillings:
    """The tower out of any checkpoint that holds one under some prefix; other tensors are not read.

    Raises:
        InterchangeError: no tower, more than one, or one of other names or shapes.
    """
    prefixes = [name.removesuffix(_FIRST) for name in tensors if name.endswith(_FIRST)]
    if len(prefixes) != 1:
        raise InterchangeError(
            f"{where} holds {len(prefixes)} audio towers (tensors …{_FIRST}), one is needed"
        )
    own = {name.removeprefix(prefixes[0]): tensors[name] for name in select(tensors)}
    table = entries(ours)
    check(their_shapes(table, ours), {name: t.shape for name, t in own.items()}, where)
    require_floats(own, where)
    return from_tensors(table, own)
