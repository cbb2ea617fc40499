"""Text tokenizers: bytes, any `tokenizer.json`, and learning a small BPE."""

from bagpiper_jax.text.faults import TokenizerError
from bagpiper_jax.text.tokenizers import (
    THINK_TOKENS,
    ByteTokenizer,
    JsonTokenizer,
    TextTokenizer,
    learn_bpe,
    load_tokenizer,
)

__all__ = [
    "THINK_TOKENS",
    "ByteTokenizer",
    "JsonTokenizer",
    "TextTokenizer",
    "TokenizerError",
    "learn_bpe",
    "load_tokenizer",
]
