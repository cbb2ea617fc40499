"""HuBERT, the semantic branch (docs/reference.md, Codec encoder): convolutions at the sample rate, then a transformer.

X-Codec reads the mean of all hidden states. Padding never reaches a clip: group norm, positional convolution and
attention look at its own frames only, unlike the release, whose codes change with the batch (docs/reference.md, Codec
in training mode).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bagpiper_jax.models.codecs.xcodec.layers import Conv, Lengths, zero_past
from bagpiper_jax.models.configs import SemanticEncoderConfig


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _norm(width: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


class ChannelNorm(nnx.Module):
    """Group norm with one channel per group, over the valid steps of each clip."""

    def __init__(self, channels: int, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B T C"]:
        count = x.shape[1] if lengths is None else jnp.maximum(lengths, 1)[:, None, None]
        mean = zero_past(x, lengths).sum(1, keepdims=True) / count
        variance = zero_past(jnp.square(x - mean), lengths).sum(1, keepdims=True) / count
        return (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


class FeatureExtractor(nnx.Module):
    """Waveform [B, T] to features [B, N, C] by unpadded strided convolutions."""

    def __init__(self, config: SemanticEncoderConfig, *, rngs: nnx.Rngs):
        widths = (1, *config.conv_widths)
        self.sizes = tuple(zip(config.conv_kernels, config.conv_strides, strict=True))
        self.conv_layers = nnx.List(
            Conv(widths[i], widths[i + 1], kernel, stride=stride, padding=0, use_bias=False, rngs=rngs)
            for i, (kernel, stride) in enumerate(self.sizes)
        )
        self.layer_norm = ChannelNorm(widths[1])

    def __call__(self, waveform: Float[Array, "B T"], lengths: Lengths):
        x = waveform[..., None]
        for index, (conv, (kernel, stride)) in enumerate(zip(self.conv_layers, self.sizes, strict=True)):
            x = conv(x)  # unpadded: a valid output reads valid inputs only
            if lengths is not None:
                lengths = jnp.maximum(lengths - kernel, -stride) // stride + 1
            x = _gelu(self.layer_norm(x, lengths) if index == 0 else x)
        return x, lengths


class PositionalConv(nnx.Module):
    """Grouped convolution whose weight is normalised per kernel position: w = g·v/‖v‖."""

    def __init__(self, config: SemanticEncoderConfig, *, rngs: nnx.Rngs):
        kernel, groups = config.positional_kernel, config.positional_groups
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        direction = init(rngs.params(), (kernel, config.width // groups, config.width))
        self.direction = nnx.Param(direction)
        self.magnitude = nnx.Param(jnp.linalg.norm(direction, axis=(1, 2)))
        self.bias = nnx.Param(jnp.zeros(config.width))
        self.groups = groups

    def __call__(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        direction = self.direction[...]
        kernel, norm = direction.shape[0], jnp.linalg.norm(direction, axis=(1, 2))
        weight = direction * (self.magnitude[...] / norm)[:, None, None]
        x = jax.lax.conv_general_dilated(
            zero_past(x, lengths),
            weight,
            window_strides=(1,),
            padding=[(kernel // 2, (kernel - 1) // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return _gelu(x + self.bias[...])


class EncoderLayer(nnx.Module):
    """Post-norm transformer layer."""

    def __init__(self, config: SemanticEncoderConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)
        self.layer_norm = _norm(width, config.norm_eps, rngs)
        self.intermediate_dense = nnx.Linear(width, config.ffn_width, rngs=rngs)
        self.output_dense = nnx.Linear(config.ffn_width, width, rngs=rngs)
        self.final_layer_norm = _norm(width, config.norm_eps, rngs)
        self.heads = config.heads

    def attend(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        heads = x.shape[:-1] + (self.heads, -1)
        q, k, v = (project(x).reshape(heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        scores = jnp.einsum("bqhk,bnhk->bhqn", q, k) * k.shape[-1] ** -0.5
        if lengths is not None:
            valid = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
            scores = jnp.where(valid[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        mixed = jnp.einsum("bhqn,bnhk->bqhk", jax.nn.softmax(scores, axis=-1), v)
        return self.out_proj(mixed.reshape(x.shape))

    def __call__(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        x = self.layer_norm(x + self.attend(x, lengths))
        return self.final_layer_norm(x + self.output_dense(_gelu(self.intermediate_dense(x))))


class SemanticModel(nnx.Module):
    """Waveform [B, T] to the mean of all L+1 hidden states [B, N, D]."""

    def __init__(self, config: SemanticEncoderConfig, *, rngs: nnx.Rngs):
        self.masked_spec_embed = nnx.Param(
            jnp.zeros(config.width)
        )  # kept for interchange; unused in inference
        self.feature_extractor = FeatureExtractor(config, rngs=rngs)
        self.feature_norm = _norm(config.conv_widths[-1], config.norm_eps, rngs)
        self.projection = nnx.Linear(config.conv_widths[-1], config.width, rngs=rngs)
        self.pos_conv_embed = PositionalConv(config, rngs=rngs)
        self.layer_norm = _norm(config.width, config.norm_eps, rngs)
        self.layers = _stack_layers(config, rngs)
        self.num_states = config.layers + 1

    def __call__(self, waveform: Float[Array, "B T"], lengths: Lengths) -> Float[Array, "B N D"]:
        x, lengths = self.feature_extractor(waveform, lengths)
        x = self.projection(self.feature_norm(x))
        x = self.layer_norm(x + self.pos_conv_embed(x, lengths))
        layer, stacked = nnx.split(self.layers)

        def step(carry, parameters):
            x, total = carry
            x = nnx.merge(layer, parameters)(x, lengths)
            return (x, total + x), None

        (_, total), _ = jax.lax.scan(step, (x, x), stacked)
        return total / self.num_states


def _stack_layers(config: SemanticEncoderConfig, rngs: nnx.Rngs) -> EncoderLayer:
    """L layers as one module whose parameters have a leading axis."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap
    def create(rngs: nnx.Rngs) -> EncoderLayer:
        return EncoderLayer(config, rngs=rngs)

    return create(rngs)
