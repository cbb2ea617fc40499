"""X-Codec's small convolutional encoder and decoder around the semantic features (docs/reference.md, Codec encoder)."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from bagpiper_jax.models.codecs.xcodec.layers import RESIDUAL_GAIN, Conv, Lengths

_BLOCKS = 2
_UNITS = 2


class ResidualUnit(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(width, width, 3, use_bias=False, rngs=rngs)
        self.conv2 = Conv(width, width, 1, use_bias=False, gain=RESIDUAL_GAIN, rngs=rngs)

    def __call__(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        return x + self.conv2(jax.nn.elu(self.conv1(jax.nn.elu(x), lengths)))


class _Block(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.res_units = nnx.List(ResidualUnit(width, rngs=rngs) for _ in range(_UNITS))
        self.conv = Conv(width, width, 3, rngs=rngs)

    def residual(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        for unit in self.res_units:
            x = unit(x, lengths)
        return x


class SemanticEncoder(nnx.Module):
    """Semantic features [B, N, D] to the semantic half of the latent."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv = Conv(width, width, 3, use_bias=False, rngs=rngs)
        self.conv_blocks = nnx.List(_Block(width, rngs=rngs) for _ in range(_BLOCKS))

    def __call__(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        x = self.conv(x, lengths)
        for block in self.conv_blocks:
            x = block.conv(block.residual(x, lengths), lengths)
        return x


class SemanticDecoder(nnx.Module):
    """Quantised latent [B, N, D] back to semantic features; a training loss only."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(width, width, 3, use_bias=False, rngs=rngs)
        self.conv_blocks = nnx.List(_Block(width, rngs=rngs) for _ in range(_BLOCKS))
        self.conv2 = Conv(width, width, 3, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "B N D"], lengths: Lengths) -> Float[Array, "B N D"]:
        x = self.conv1(x, lengths)
        for block in self.conv_blocks:
            x = block.residual(block.conv(x, lengths), lengths)
        return self.conv2(x, lengths)
