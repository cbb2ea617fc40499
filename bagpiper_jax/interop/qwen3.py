"""Qwen3 as transformers names it ↔ our decoder and head (reference section 5.1)."""

from collections.abc import Mapping

import numpy as np

from bagpiper_jax.interop.names import (
    MATRIX,
    MERGE,
    SAME,
    Entry,
    Shapes,
    check,
    their_shapes,
    to_ours,
    write_out,
)
from bagpiper_jax.interop.tensors import Tensor
from bagpiper_jax.vocabulary import Vocabulary

_LAYER = "model.layers.{l}"

TABLE = (
    ("model.embed_tokens.weight", "decoder/embed_tokens", SAME),
    ("lm_head.weight", "lm_head", SAME),
    ("model.norm.weight", "decoder/norm", SAME),
    (_LAYER + ".self_attn.[q|k|v]_proj.weight", "decoder/layers/attention/[query|key|value]", MATRIX),
    (_LAYER + ".self_attn.o_proj.weight", "decoder/layers/attention/output", MERGE),
    (_LAYER + ".self_attn.[q|k]_norm.weight", "decoder/layers/attention/[query|key]_norm", SAME),
    (_LAYER + ".mlp.[gate|up|down]_proj.weight", "decoder/layers/ffn/[gate|up|down]", MATRIX),
    (_LAYER + ".[input|post_attention]_layernorm.weight", "decoder/layers/[attention|ffn]_norm", SAME),
)

VOCABULARY_TABLES = ("decoder/embed_tokens", "lm_head")


def entries(ours: Shapes) -> list[Entry]:
    return write_out(TABLE, ours)


def import_backbone(
    tensors: Mapping[str, Tensor], fresh: Mapping[str, np.ndarray], vocabulary: Vocabulary, where: str
) -> dict[str, np.ndarray]:
    """Decoder and head of a text-only Qwen3 (reference section 3.2).

    Its rows become our text rows; specials and codec rows keep their fresh initialisation. A model with tied
    embeddings gives its head from them.

    Args:
        tensors: the checkpoint.
        fresh: newly initialised parameters of our model.
        vocabulary: ours.
        where: name of the checkpoint for errors.

    Raises:
        InterchangeError: missing, unknown or misshapen tensors, or more text rows than the vocabulary has.
    """
    tensors = dict(tensors)
    tensors.setdefault("lm_head.weight", tensors.get("model.embed_tokens.weight", Tensor((0, 0), np.zeros)))
    rows = tensors["lm_head.weight"].shape[0]
    ours = {name: x.shape for name, x in fresh.items()}
    text = ours | {name: (min(rows, vocabulary.text_size), *ours[name][1:]) for name in VOCABULARY_TABLES}
    table = entries(text)
    check(their_shapes(table, text), {name: t.shape for name, t in tensors.items()}, where)
    parameters = to_ours(table, lambda name: tensors[name].read(), text)
    for name in VOCABULARY_TABLES:
        whole = np.array(fresh[name])
        whole[vocabulary.text_start : vocabulary.text_start + rows] = parameters[name]
        parameters[name] = whole
    return parameters
