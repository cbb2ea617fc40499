"""One optimizer step of the codec, as a pure function of (state, waveforms)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bagpiper_jax.models.codec import functional
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.training.codebooks import CodebookConfig, quantize
from bagpiper_jax.training.codec_losses import spectral_losses


@dataclasses.dataclass(frozen=True)
class CodecOptimizerConfig:
    """AdamW with linear warm-up and cosine decay to a tenth; and the weights of the losses."""

    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    mel_weight: float = 2.0
    spectral_weight: float = 1.0
    commitment_weight: float = 0.25
    semantic_weight: float = 0.1
    codebooks: CodebookConfig = CodebookConfig()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CodecState:
    """Everything training changes: `weights` take gradients, `books` follow the data."""

    step: Array
    weights: dict[str, Array]
    books: dict[str, Array]
    moments: optax.OptState

    @property
    def parameters(self) -> dict[str, Array]:
        """The codec's parameters under their own names."""
        return self.weights | {f"quantizer.{name}": value for name, value in self.books.items()}


def optimizer(config: CodecOptimizerConfig, steps: int) -> optax.GradientTransformation:
    peak = config.learning_rate
    warmup = min(config.warmup_steps, max(1, steps // 2))
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1), peak / 10)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, b1=0.8, b2=0.99, weight_decay=config.weight_decay),
    )


def initial_state(codec: CodecConfig, config: CodecOptimizerConfig, steps: int, seed: int) -> CodecState:
    parameters = functional.initialize(codec, seed)
    books = {name.split(".")[1]: parameters[name] for name in parameters if name.startswith("quantizer.")}
    weights = {name: value for name, value in parameters.items() if not name.startswith("quantizer.")}
    return CodecState(jnp.zeros((), jnp.int32), weights, books, optimizer(config, steps).init(weights))


def losses(weights, books, waveform, step, key, codec: CodecConfig, config: CodecOptimizerConfig):
    """Weighted loss, and what else the step reports: the parts of the loss, the codebooks, the codes."""
    parameters = weights | {f"quantizer.{name}": value for name, value in books.items()}
    model = functional.build(parameters, codec)
    latent, features = model.latent(waveform)
    quantized = quantize(latent, books, step, key, config.codebooks)
    generated = model.synthesize(quantized.latent)
    restored = model.decoder_semantic(model.fc1(quantized.latent), None)
    parts = spectral_losses(generated, waveform, codec.sample_rate)
    parts["commitment"] = quantized.commitment
    # HuBERT is the teacher here, also while it is itself being trained
    parts["semantic"] = jnp.square(restored - jax.lax.stop_gradient(features)).mean()
    total = sum(getattr(config, f"{name}_weight") * value for name, value in parts.items())
    return total, (parts | {"loss": total}, quantized)


@functools.partial(jax.jit, static_argnames=("codec", "config", "steps", "seed"), donate_argnums=0)
def train_step(
    state: CodecState,
    waveform: Float[Array, "B T"],
    codec: CodecConfig,
    config: CodecOptimizerConfig,
    steps: int,
    seed: int,
) -> tuple[CodecState, dict[str, Array]]:
    """The next state and scalar metrics, per-stream perplexity of the codes among them."""
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    value_and_grad = jax.value_and_grad(losses, has_aux=True)
    (_, (metrics, quantized)), gradient = value_and_grad(
        state.weights, state.books, waveform, state.step, key, codec, config
    )
    updates, moments = optimizer(config, steps).update(gradient, state.moments, state.weights)
    metrics |= {"gradient_norm": optax.global_norm(gradient)}
    metrics |= _perplexities(quantized.codes, codec)
    state = CodecState(state.step + 1, optax.apply_updates(state.weights, updates), quantized.books, moments)
    return state, metrics


def _perplexities(codes, codec: CodecConfig) -> dict[str, Array]:
    """exp(entropy) of each stream's codes within the batch."""
    share = jax.nn.one_hot(codes, codec.codebook_size).mean((0, 1))
    perplexity = jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10), axis=-1))
    return {f"perplexity_{stream}": perplexity[stream] for stream in range(codec.num_codebooks)}
