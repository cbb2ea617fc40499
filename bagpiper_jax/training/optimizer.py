"""AdamW or Muon with warm-up and cosine decay (docs/reference.md, Training stages and Muon)."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bagpiper_jax.training.muon import muon_and
from bagpiper_jax.training.partition import EMBEDDING, Parameters


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer of a run. The defaults are those of the release's pretraining.

    Attributes:
        kind: "adamw", as the release; "muon" for the decoder's matrices and Adam for the rest, see `muon.muon_and`.
        matrix_rate: under Muon, the root mean square of a matrix's update / `learning_rate`.
        peak_rate: learning rate after warm-up.
        warmup_steps: linear from 0 at step 0.
        decay_end: step at which the cosine ends; the rate is flat afterwards.
        min_ratio: final rate / peak rate; 1 gives a constant rate.
        beta1, beta2, epsilon: the decays of Adam's moments, and what is added to their root.
        mu_dtype: the type that the first moment is kept in; "bfloat16" saves 2 bytes per parameter. The second moment
            stays float32: its steps of 1 - beta2 are too small for bfloat16.
        weight_decay: the decoupled decay of everything but the embedding table.
        clip: the greatest global norm of the gradient.
        tower_ratio: rate of the audio tower, where it trains, and of its adaptor / `learning_rate`.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    matrix_rate: float = 0.2
    peak_rate: float = 1e-4
    warmup_steps: int = 5_000
    decay_end: int = 600_000
    min_ratio: float = 0.3
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    mu_dtype: Literal["float32", "bfloat16"] = "float32"
    weight_decay: float = 3e-7
    clip: float = 1.0
    tower_ratio: float = 1.0

    def __post_init__(self):
        if not 0 <= self.warmup_steps < self.decay_end:
            raise ValueError(f"warmup_steps {self.warmup_steps} must come before decay_end {self.decay_end}")


def learning_rate(config: OptimizerConfig, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """The rate of step `step`, counted from 0."""
    step = jnp.asarray(step, jnp.float32)
    warmup = jnp.minimum(1.0, step / max(config.warmup_steps, 1)) if config.warmup_steps else 1.0
    progress = jnp.clip((step - config.warmup_steps) / (config.decay_end - config.warmup_steps), 0, 1)
    cosine = config.min_ratio + (1 - config.min_ratio) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return config.peak_rate * warmup * cosine


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, direction, decoupled decay, schedule. Its state covers exactly the tree it is given."""

    def decays(parameters: Parameters):
        return {name: name != EMBEDDING for name in parameters}

    def is_audio_input(parameters: Parameters):
        return {name: name.startswith(("tower/", "adaptor/")) for name in parameters}

    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon, mu_dtype=config.mu_dtype)
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        muon_and(adam, config.matrix_rate) if config.kind == "muon" else adam,
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.masked(optax.scale(config.tower_ratio), is_audio_input),
        optax.scale_by_learning_rate(lambda step: learning_rate(config, step)),
    )
