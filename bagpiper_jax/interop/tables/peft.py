"""LoRA's matrices as PEFT names them ↔ our adapter's parameters.

torch's Linear has outputs first, so PEFT's lora_A is [r, in] and lora_B [out, r]; ours are the other way round.
"""

import dataclasses

from bagpiper_jax.interop.tables.grammar import MATRIX, Entry, write_out
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.parameters import Shapes

_LAYER, _OURS = "model.layers.{l}", lora.TRAINED + "decoder/layers/"
_PROJECTIONS = (_LAYER + ".self_attn.[q|k|v|o]_proj", _OURS + "attention/[query|key|value|output]")
_FFN = (_LAYER + ".mlp.[gate|up|down]_proj", _OURS + "ffn/[gate|up|down]")
_ADAPTOR = ("adaptor.continuous_audio", lora.TRAINED + "adaptor/kernel")

A, B, WEIGHT = ".lora_A", ".lora_B", ".weight"
TABLE = (
    *((theirs + A + WEIGHT, ours + "/a", MATRIX) for theirs, ours in (_PROJECTIONS, _FFN, _ADAPTOR)),
    *((theirs + B + WEIGHT, ours + "/b", MATRIX) for theirs, ours in (_PROJECTIONS, _FFN, _ADAPTOR)),
    ("stream_emb.lora_embedding_A", lora.TRAINED + "stream_emb/a", MATRIX),
    ("stream_emb.lora_embedding_B", lora.TRAINED + "stream_emb/b", MATRIX),
)

PREFIXES = {"native": "base_model.model.", "vllm": "base_model.model.language_model."}
"""What every name begins with: PEFT's wrapper, and the module that ESPnet's vLLM fork puts the decoder into."""


def entries(ours: Shapes, prefix: str = "native") -> list[Entry]:
    """The table for an adapter of these shapes; their names begin as `prefix` of `PREFIXES` says."""
    return [dataclasses.replace(e, theirs=PREFIXES[prefix] + e.theirs) for e in write_out(TABLE, ours)]


def module_of(name: str) -> str:
    """The module that a tensor changes, without a prefix."""
    for prefix in sorted(PREFIXES.values(), key=len, reverse=True):
        name = name.removeprefix(prefix)
    return name.split(".lora_")[0]


def path_of(entry: Entry) -> str:
    """The path of our model that a tensor changes."""
    return entry.ours.removeprefix(lora.TRAINED).rpartition("/")[0]
