"""Qwen3 as transformers names it ↔ our decoder and head (docs/reference.md, Native checkpoint)."""

from bagpiper_jax.interop.tables.grammar import MATRIX, MERGE, SAME, Entry, write_out
from bagpiper_jax.models.parameters import Shapes

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


def entries(ours: Shapes) -> list[Entry]:
    """The table for a model of these shapes."""
    return write_out(TABLE, ours)
