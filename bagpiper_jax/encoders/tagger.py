"""The linear head through which an encoder from scratch learns to tag frames; no part of the encoder itself.

Its parameters live among the encoder's under names that start with `tagger/`.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

PREFIX = "tagger/"
_RARE = -3.0
"""First logit of every tag: most hold in few frames."""


def initialize(width: int, num_tags: int) -> dict[str, Array]:
    """Parameters of a head on features of this width."""
    return {
        PREFIX + "kernel": jnp.zeros((width, num_tags)),
        PREFIX + "bias": jnp.full(num_tags, _RARE),
    }


def strip(weights: dict[str, Array]) -> dict[str, Array]:
    """The encoder's parameters, without the head's."""
    return {name: value for name, value in weights.items() if not name.startswith(PREFIX)}


def logits(weights: dict[str, Array], features: Float[Array, "B N D"]) -> Float[Array, "B N K"]:
    return features @ weights[PREFIX + "kernel"] + weights[PREFIX + "bias"]


def frame_losses(logits: Float[Array, "B N K"], tags: Bool[Array, "B N K"]) -> Float[Array, "B N"]:
    """Binary cross-entropy, summed over tags."""
    return optax.sigmoid_binary_cross_entropy(logits, tags.astype(logits.dtype)).sum(-1)
