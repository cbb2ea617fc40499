"""One optimizer step of codec and discriminators together, as a pure function of (state, crops)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bagpiper_jax.encoders.adversary.balance import Gradient, balanced
from bagpiper_jax.encoders.adversary.config import AdversaryConfig
from bagpiper_jax.encoders.adversary.discriminators import judge, levelled
from bagpiper_jax.encoders.adversary.losses import adversarial_loss, discriminator_loss, feature_loss
from bagpiper_jax.encoders.adversary.state import (
    ADVERSARIAL,
    FEATURES,
    SPECTRAL,
    AdversaryState,
    optimizer,
)
from bagpiper_jax.encoders.codec_data import Crops
from bagpiper_jax.encoders.codec_losses import spectral_losses
from bagpiper_jax.encoders.codec_step import (
    CodecOptimizerConfig,
    CodecState,
    advanced,
    copied,
    perplexities,
    weighted,
)
from bagpiper_jax.models.configs import CodecConfig


@functools.partial(
    jax.jit, static_argnames=("codec", "config", "adversary", "steps", "seed"), donate_argnums=0
)
def adversarial_step(
    state: CodecState,
    batch: Crops,
    codec: CodecConfig,
    config: CodecOptimizerConfig,
    adversary: AdversaryConfig,
    steps: int,
    seed: int,
) -> tuple[CodecState, dict[str, Array]]:
    """The next state and scalar metrics. Codec and discriminators both learn from what they were before the step."""
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def through_the_codec(weights):
        return copied(weights, state.books, batch, state.step, key, codec, config)

    (copy, loss), pull, (parts, quantized) = jax.vjp(through_the_codec, state.weights, has_aux=True)
    spectral, heard = _spectral_gradient(copy, batch, codec, config)
    rival, gradients, judged = _rivalry(state.adversary, batch.waveform, copy, adversary, steps)
    gradients = {SPECTRAL: spectral, **gradients}
    norms = rival.norms.after(gradients, adversary.norm_decay)
    ramp = _ramp(state.step, adversary)
    shares = {ADVERSARIAL: ramp * adversary.adversarial_share, FEATURES: ramp * adversary.feature_share}
    (gradient,) = pull((balanced(gradients, norms, SPECTRAL, shares), jnp.ones_like(loss)))
    metrics = parts | heard | {"loss": loss + weighted(heard, config)} | judged
    metrics |= perplexities(quantized.codes, codec) | {f"{name}_norm": norms.mean(name) for name in gradients}
    state, metrics = advanced(state, gradient, quantized.books, metrics, config, steps)
    return dataclasses.replace(state, adversary=dataclasses.replace(rival, norms=norms)), metrics


def _ramp(step: Array, config: AdversaryConfig) -> Float[Array, ""]:
    """How much of its shares the adversary has by now."""
    return jnp.clip((step - config.begin + 1) / max(1, config.ramp_steps), 0, 1)


def _spectral_gradient(copy, batch: Crops, codec: CodecConfig, config: CodecOptimizerConfig):
    """Of the spectral losses at the copy, with the losses."""

    def loss(copy):
        heard = spectral_losses(copy, batch.waveform, codec.sample_rate)
        return weighted(heard, config), heard

    return jax.grad(loss, has_aux=True)(copy)


def _rivalry(
    rival: AdversaryState,
    original: Float[Array, "B T"],
    copy: Float[Array, "B T"],
    config: AdversaryConfig,
    steps: int,
) -> tuple[AdversaryState, dict[str, Gradient], dict[str, Array]]:
    """The discriminators a step later, what the copy should do about them as they were, and the losses of all three.

    Originals and copies pass through them once; the three losses are then pulled back.
    """
    of_originals, pull_originals = jax.vjp(
        lambda weights: judge(weights, config.discriminators, levelled(original, copy)[0]), rival.weights
    )
    of_copies, pull_copies = jax.vjp(
        lambda weights, copy: judge(weights, config.discriminators, levelled(original, copy)[1]),
        rival.weights,
        copy,
    )
    told, (at_originals, at_copies) = jax.value_and_grad(discriminator_loss, (1, 2))(
        config.loss, of_originals, of_copies
    )
    learned = jax.tree.map(jnp.add, pull_originals(at_originals)[0], pull_copies(at_copies)[0])
    deceived, toward = jax.value_and_grad(adversarial_loss, 1)(config.loss, of_copies)
    apart, nearer = jax.value_and_grad(feature_loss, 1)(of_originals, of_copies)
    gradients = {ADVERSARIAL: pull_copies(toward)[1], FEATURES: pull_copies(nearer)[1]}
    updates, moments = optimizer(config, steps).update(learned, rival.moments, rival.weights)
    rival = AdversaryState(optax.apply_updates(rival.weights, updates), moments, rival.norms)
    losses = {"discriminators": told, "adversarial": deceived, "features": apart}
    return rival, gradients, losses | {"discriminators_gradient_norm": optax.global_norm(learned)}
