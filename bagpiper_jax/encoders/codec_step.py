"""One optimizer step of the codec, as a pure function of (state, crops)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bagpiper_jax.encoders import tagger
from bagpiper_jax.encoders.adversary.state import AdversaryState
from bagpiper_jax.encoders.codebooks import CodebookConfig, quantize
from bagpiper_jax.encoders.codec_data import Crops
from bagpiper_jax.encoders.codec_losses import spectral_losses
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.configs import CodecConfig


@dataclasses.dataclass(frozen=True)
class CodecOptimizerConfig:
    """AdamW with linear warm-up and cosine decay to a tenth, in either part of a run; the weights of the losses.

    Attributes:
        learning_rate: the peak.
        warmup_steps: steps up to the peak.
        weight_decay: of AdamW.
        clip_norm: largest norm of the gradient.
        mel_weight, spectral_weight: of the distances between log-mel features, and between spectra.
        commitment_weight: of the distance between latents and their codes.
        semantic_weight: of the distance between the semantic branch's input and what the codes give back of it.
        tag_weight, first_tag_weight: of the tags that the semantic branch tells, and those that the first code vector
            alone tells.
        codebooks: how codes follow the data.
        semantic_steps: first steps of a run, in which the semantic branch alone learns, to tag frames; it stands for
            the HuBERT that the release's codec starts from.
    """

    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    mel_weight: float = 2.0
    spectral_weight: float = 1.0
    commitment_weight: float = 0.25
    semantic_weight: float = 0.1
    tag_weight: float = 0.1
    first_tag_weight: float = 0.1
    semantic_steps: int = 0
    codebooks: CodebookConfig = CodebookConfig()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CodecState:
    """Everything training changes: `weights` take gradients, `books` follow the data.

    Among the weights are those of `tagger`, which is no part of the codec. Runs without an adversary have none.
    """

    step: Array
    weights: dict[str, Array]
    books: dict[str, Array]
    moments: optax.OptState
    adversary: AdversaryState | None = None

    @property
    def parameters(self) -> dict[str, Array]:
        """The codec's parameters under their own names."""
        return _codec_parameters(self.weights, self.books)


def _codec_parameters(weights, books):
    return tagger.strip(weights) | {f"quantizer/{name}": value for name, value in books.items()}


def optimizer(config: CodecOptimizerConfig, steps: int) -> optax.GradientTransformation:
    first = config.semantic_steps
    schedule = optax.join_schedules([_schedule(config, first), _schedule(config, steps - first)], [first])
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, b1=0.8, b2=0.99, weight_decay=config.weight_decay),
    )


def _schedule(config: CodecOptimizerConfig, steps: int) -> optax.Schedule:
    peak, warmup = config.learning_rate, min(config.warmup_steps, max(1, steps // 2))
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1), peak / 10)


def initial_state(
    codec: CodecConfig, config: CodecOptimizerConfig, steps: int, seed: int, num_tags: int
) -> CodecState:
    parameters = functional.initialize(codec, seed)
    books = {name.split("/")[1]: parameters[name] for name in parameters if name.startswith("quantizer/")}
    weights = {name: value for name, value in parameters.items() if not name.startswith("quantizer/")}
    weights |= tagger.initialize(codec.semantic.width, num_tags)
    return CodecState(jnp.zeros((), jnp.int32), weights, books, optimizer(config, steps).init(weights))


def copied(weights, books, batch: Crops, step, key, codec: CodecConfig, config: CodecOptimizerConfig):
    """The codec's copy of a batch with the weighted sum of the losses that do not listen to it; the parts of that
    sum, and what was quantised."""
    model = functional.build(_codec_parameters(weights, books), codec)
    latent, features = model.latent(batch.waveform)
    quantized = quantize(latent, books, step - config.semantic_steps, key, config.codebooks)
    restored, first = (
        model.decoder_semantic(model.fc1(x), None) for x in (quantized.latent, quantized.first)
    )
    parts = {
        "tag": _tag_loss(weights, features, batch),
        "first_tag": _tag_loss(weights, first, batch),
        "commitment": quantized.commitment,
        # HuBERT is the teacher here, also while it is itself being trained
        "semantic": jnp.square(restored - jax.lax.stop_gradient(features)).mean(),
    }
    return (model.synthesize(quantized.latent), weighted(parts, config)), (parts, quantized)


def weighted(parts: dict[str, Array], config: CodecOptimizerConfig) -> Float[Array, ""]:
    """The sum of losses, each times its weight."""
    return sum(getattr(config, f"{name}_weight") * value for name, value in parts.items())


def losses(weights, books, batch: Crops, step, key, codec: CodecConfig, config: CodecOptimizerConfig):
    """Weighted loss, and what else the step reports: the parts of the loss, the codebooks, the codes."""
    (copy, loss), (parts, quantized) = copied(weights, books, batch, step, key, codec, config)
    heard = spectral_losses(copy, batch.waveform, codec.sample_rate)
    total = loss + weighted(heard, config)
    return total, (parts | heard | {"loss": total}, quantized)


def semantic_losses(weights, books, batch: Crops, codec: CodecConfig):
    """What the semantic branch alone learns from."""
    model = functional.build(_codec_parameters(weights, books), codec)
    loss = _tag_loss(weights, model.semantic_features(batch.waveform, None), batch)
    return loss, {"tag": loss, "loss": loss}


def _tag_loss(weights, features: Float[Array, "B N D"], batch: Crops) -> Float[Array, ""]:
    """The tagger's loss, averaged over the clips whose tags are known."""
    loss = tagger.frame_losses(tagger.logits(weights, features), batch.tags).mean(-1)
    return jnp.where(batch.tagged, loss, 0).sum() / jnp.maximum(batch.tagged.sum(), 1)


@functools.partial(jax.jit, static_argnames=("codec", "config", "steps", "seed"), donate_argnums=0)
def train_step(
    state: CodecState,
    batch: Crops,
    codec: CodecConfig,
    config: CodecOptimizerConfig,
    steps: int,
    seed: int,
) -> tuple[CodecState, dict[str, Array]]:
    """The next state and scalar metrics, per-stream perplexity of the codes among them."""
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    value_and_grad = jax.value_and_grad(losses, has_aux=True)
    (_, (metrics, quantized)), gradient = value_and_grad(
        state.weights, state.books, batch, state.step, key, codec, config
    )
    metrics |= perplexities(quantized.codes, codec)
    return advanced(state, gradient, quantized.books, metrics, config, steps)


def advanced(
    state: CodecState, gradient: dict[str, Array], books, metrics, config: CodecOptimizerConfig, steps: int
) -> tuple[CodecState, dict[str, Array]]:
    """The state after the optimizer's step along a gradient, and metrics with its norm; the adversary stays."""
    updates, moments = optimizer(config, steps).update(gradient, state.moments, state.weights)
    weights = optax.apply_updates(state.weights, updates)
    metrics = metrics | {"gradient_norm": optax.global_norm(gradient)}
    return CodecState(state.step + 1, weights, books, moments, state.adversary), metrics


@functools.partial(jax.jit, static_argnames=("codec", "config", "steps"), donate_argnums=0)
def semantic_step(
    state: CodecState, batch: Crops, codec: CodecConfig, config: CodecOptimizerConfig, steps: int
) -> tuple[CodecState, dict[str, Array]]:
    """The next state and scalar metrics of a step in which the semantic branch alone learns."""
    gradient, metrics = jax.grad(semantic_losses, has_aux=True)(state.weights, state.books, batch, codec)
    return advanced(state, gradient, state.books, metrics, config, steps)


def perplexities(codes, codec: CodecConfig) -> dict[str, Array]:
    """exp(entropy) of each stream's codes within the batch."""
    share = jax.nn.one_hot(codes, codec.codebook_size).mean((0, 1))
    perplexity = jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10), axis=-1))
    return {f"perplexity_{stream}": perplexity[stream] for stream in range(codec.num_codebooks)}
