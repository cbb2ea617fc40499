"""What can be wrong with a tokenizer."""

from bagpiper_jax.errors import Explained


class TokenizerError(Explained, ValueError):
    """A tokenizer that cannot be loaded or written, or a text that it cannot take; names the file and the remedy."""
