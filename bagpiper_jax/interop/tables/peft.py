"""LoRA's matrices as PEFT names them ↔ our adapter's parameters.

torch's Linear has outputs first, so PEFT's lora_A is [r, in] and lora_B [out, r]; ours are the other way round.
"""

import dataclasses

from bagpiper_jax.interop.tables.grammar import MATRIX, Entry, write_out
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.parameters import Shapes

_MODULES = {
    **{
        f"model.layers.{{l}}.self_attn.{theirs}_proj": f"decoder/layers/attention/{ours}"
        for theirs, ours in {"q": "query", "k": "key", "v": "value", "o": "output"}.items()
    },
    **{
        f"model.layers.{{l}}.mlp.{name}_proj": f"decoder/layers/ffn/{name}" for name in ("gate", "up", "down")
    },
    "adaptor.continuous_audio": "adaptor/kernel",
}
TABLE = (
    *((f"{theirs}.lora_A.weight", f"{lora.TRAINED}{ours}/a", MATRIX) for theirs, ours in _MODULES.items()),
    *((f"{theirs}.lora_B.weight", f"{lora.TRAINED}{ours}/b", MATRIX) for theirs, ours in _MODULES.items()),
    ("stream_emb.lora_embedding_A", lora.TRAINED + "stream_emb/a", MATRIX),
    ("stream_emb.lora_embedding_B", lora.TRAINED + "stream_emb/b", MATRIX),
)

PREFIXES = {"native": "base_model.model.", "vllm": "base_model.model.language_model."}
"""What every name begins with: PEFT's wrapper, and the module that ESPnet's vLLM fork puts the decoder into."""


def entries(ours: Shapes, prefix: str = "native") -> list[Entry]:
    """The table for an adapter of these shapes; their names begin as `prefix` of `PREFIXES` says."""
    there = [row for row in TABLE if row[1] in ours]
    return [dataclasses.replace(e, theirs=PREFIXES[prefix] + e.theirs) for e in write_out(there, ours)]


def module_of(name: str) -> str:
    """The module that a tensor changes, without a prefix."""
    for prefix in sorted(PREFIXES.values(), key=len, reverse=True):
        name = name.removeprefix(prefix)
    return name.split(".lora_")[0]


def path_of(entry: Entry) -> str:
    """The path of our model that a tensor changes."""
    return entry.ours.removeprefix(lora.TRAINED).rpartition("/")[0]
