"""Qwen3 as transformers names it ↔ our decoder and head (docs/reference.md, Native checkpoint)."""

from collections.abc import Mapping

from bagpiper_jax.interop.fillings import Fillings, from_tensors, normal_rows, placed
from bagpiper_jax.interop.formats.tensors import Tensor, require_floats
from bagpiper_jax.interop.tables.grammar import (
    MATRIX,
    MERGE,
    SAME,
    Shapes,
    TableEntry,
    check,
    their_shapes,
    write_out,
)
from bagpiper_jax.models.configs import BagpiperConfig

_LAYER = "model.layers.{l}"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

TABLE = (
    (EMBEDDING, "decoder/embed_tokens", SAME),
    (HEAD, "lm_head", SAME),
    ("model.norm.weight", "decoder/norm", SAME),
    (_LAYER + ".self_attn.[q|k|v]_proj.weight", "decoder/layers/attention/[query|key|value]", MATRIX),
    (_LAYER + ".self_attn.o_proj.weight", "decoder/layers/attention/output", MERGE),
    (_LAYER + ".self_attn.[q|k]_norm.weight", "decoder/layers/attention/[query|key]_norm", SAME),
    (_LAYER + ".mlp.[gate|up|down]_proj.weight", "decoder/layers/ffn/[gate|up|down]", MATRIX),
    (_LAYER + ".[input|post_attention]_layernorm.weight", "decoder/layers/[attention|ffn]_norm", SAME),
)

VOCABULARY_TABLES = ("decoder/embed_tokens", "lm_head")


def entries(ours: Shapes) -> list[TableEntry]:
    return write_out(TABLE, ours)


def import_backbone(
    tensors: Mapping[str, Tensor], config: BagpiperConfig, ours: Shapes, seed: int, where: str
) -> Fillings:
    """Decoder and head from a text-only Qwen3 (docs/reference.md, Embedding and head).

    Its rows become our text rows; specials and codec rows are drawn anew. Tables over our whole vocabulary, as our
    export has them, are taken as they are. A model with tied embeddings gives its head from them.

    Args:
        tensors: the checkpoint.
        config, ours: our model and its shapes.
        seed: of the new rows.
        where: name of the checkpoint for errors.

    Raises:
        InterchangeError: missing, unknown or misshapen tensors, or more text rows than the vocabulary has.
    """
    tensors, vocabulary = dict(tensors), config.vocabulary
    if EMBEDDING in tensors:
        tensors.setdefault(HEAD, tensors[EMBEDDING])
    rows = tensors[HEAD].shape[0] if HEAD in tensors else 0
    whole = rows == vocabulary.size
    rows = rows if whole else min(rows, vocabulary.text_size)
    text = {**ours, **{name: (rows, *ours[name][1:]) for name in VOCABULARY_TABLES}}
    table = entries(text)
    check(their_shapes(table, text), {name: t.shape for name, t in tensors.items()}, where)
    require_floats(tensors, where)
    found = from_tensors(table, tensors)
    if whole:
        return found
    for name in VOCABULARY_TABLES:
        fresh = normal_rows(name, config.decoder.width, config.decoder.init_std, seed)
        found[name] = placed(found[name], rows, vocabulary.text_start, fresh)
    return found
