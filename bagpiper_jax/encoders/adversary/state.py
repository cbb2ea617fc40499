"""What training changes of an adversary: the discriminators, their optimizer, and the norms that balance."""

import dataclasses

import jax
import optax
from jaxtyping import Array

from bagpiper_jax.encoders.adversary import discriminators
from bagpiper_jax.encoders.adversary.balance import RunningNorms
from bagpiper_jax.encoders.adversary.config import AdversaryConfig

SPECTRAL, ADVERSARIAL, FEATURES = "spectral_losses", "adversarial", "features"
"""The gradients that are balanced; the first is the anchor."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdversaryState:
    """Parameters of all discriminators by path, the state of their optimizer, and the norms of gradients so far."""

    weights: dict[str, Array]
    moments: optax.OptState
    norms: RunningNorms


def optimizer(config: AdversaryConfig, steps: int) -> optax.GradientTransformation:
    """AdamW, whose rate falls from the adversary's first step to the run's last, to a tenth."""
    rate = optax.cosine_decay_schedule(config.learning_rate, max(1, steps - config.begin), 0.1)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), optax.adamw(rate, b1=0.8, b2=0.99, weight_decay=0.0)
    )


def initial_adversary(config: AdversaryConfig, steps: int, seed: int) -> AdversaryState:
    """Random discriminators."""
    weights = discriminators.initialize(config.discriminators, seed)
    norms = RunningNorms.of(SPECTRAL, ADVERSARIAL, FEATURES)
    return AdversaryState(weights, optimizer(config, steps).init(weights), norms)
