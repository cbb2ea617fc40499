"""Losses of an adversary: of the discriminators, of the codec that deceives them, and of matching their features."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bagpiper_jax.encoders.adversary.discriminators import Features


def discriminator_loss(
    loss: str, originals: Sequence[Features], copies: Sequence[Features]
) -> Float[Array, ""]:
    """How badly originals are told from copies, a mean over discriminators."""
    return _mean(
        _judged(loss, original[-1]) + _judged(loss, -copy[-1] if loss == "hinge" else 1 - copy[-1])
        for original, copy in zip(originals, copies, strict=True)
    )


def adversarial_loss(loss: str, copies: Sequence[Features]) -> Float[Array, ""]:
    """How far copies are from passing for originals, a mean over discriminators."""
    return _mean(_judged(loss, copy[-1]) for copy in copies)


def feature_loss(originals: Sequence[Features], copies: Sequence[Features]) -> Float[Array, ""]:
    """The L1 distance of what all layers but the last say, a mean over them; originals take no gradient."""
    return _mean(
        jnp.abs(jax.lax.stop_gradient(theirs) - ours).mean()
        for original, copy in zip(originals, copies, strict=True)
        for theirs, ours in zip(original[:-1], copy[:-1], strict=True)
    )


def _judged(loss: str, logits: jax.Array) -> jax.Array:
    """The cost of logits that should be at 1: exactly, or at least."""
    return jnp.square(1 - logits).mean() if loss == "lsgan" else jax.nn.relu(1 - logits).mean()


def _mean(values) -> jax.Array:
    values = list(values)
    return sum(values) / len(values)
