"""The DAC encoder and decoder of X-Codec, under the release's names.

See docs/reference.md, Codec encoder and Codec decoder.
"""

import math

from flax import nnx
from jaxtyping import Array, Float

from bagpiper_jax.models.codecs.xcodec.layers import (
    RESIDUAL_GAIN,
    Conv,
    Lengths,
    Snake,
    Upsample,
    scale_lengths,
)
from bagpiper_jax.models.configs import CodecConfig


class ResidualUnit(nnx.Module):
    def __init__(self, channels: int, dilation: int, *, rngs: nnx.Rngs):
        self.snake1 = Snake(channels)
        self.conv1 = Conv(channels, channels, 7, dilation=dilation, rngs=rngs)
        self.snake2 = Snake(channels)
        self.conv2 = Conv(channels, channels, 1, gain=RESIDUAL_GAIN, rngs=rngs)

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B T C"]:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x), lengths)))


_DILATIONS = 1, 3, 9


class ResidualUnits(nnx.Module):
    """Three units of growing dilation."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.res_unit1 = ResidualUnit(channels, _DILATIONS[0], rngs=rngs)
        self.res_unit2 = ResidualUnit(channels, _DILATIONS[1], rngs=rngs)
        self.res_unit3 = ResidualUnit(channels, _DILATIONS[2], rngs=rngs)

    def residual(self, x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B T C"]:
        return self.res_unit3(self.res_unit2(self.res_unit1(x, lengths), lengths), lengths)


class EncoderBlock(ResidualUnits):
    def __init__(self, channels: int, stride: int, *, rngs: nnx.Rngs):
        super().__init__(channels, rngs=rngs)
        self.snake1 = Snake(channels)
        self.conv1 = Conv(
            channels, 2 * channels, 2 * stride, stride=stride, padding=-(-stride // 2), rngs=rngs
        )

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B U O"]:
        return self.conv1(self.snake1(self.residual(x, lengths)), lengths)


class DecoderBlock(ResidualUnits):
    def __init__(self, channels: int, stride: int, *, rngs: nnx.Rngs):
        super().__init__(channels // 2, rngs=rngs)
        self.snake1 = Snake(channels)
        self.conv_t1 = Upsample(channels, channels // 2, stride, rngs=rngs)
        self.stride = stride

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B U O"]:
        x = self.conv_t1(self.snake1(x), lengths)
        return self.residual(x, scale_lengths(lengths, up=self.stride))


class AcousticEncoder(nnx.Module):
    """Waveform [B, N·hop, 1] to acoustic frames [B, N, acoustic_width]."""

    def __init__(self, config: CodecConfig, *, rngs: nnx.Rngs):
        channels = [config.encoder_width * 2**i for i in range(len(config.strides) + 1)]
        self.strides = config.strides
        self.conv1 = Conv(1, channels[0], 7, rngs=rngs)
        self.block = nnx.List(
            EncoderBlock(width, stride, rngs=rngs)
            for width, stride in zip(channels, config.strides, strict=False)
        )
        self.snake1 = Snake(channels[-1])
        self.conv2 = Conv(channels[-1], config.acoustic_width, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "B T 1"], lengths: Lengths) -> Float[Array, "B N A"]:
        x = self.conv1(x, lengths)
        for block, stride in zip(self.block, self.strides, strict=True):
            x = block(x, lengths)
            lengths = scale_lengths(lengths, down=stride)
        return self.conv2(self.snake1(x), lengths)


class AcousticDecoder(nnx.Module):
    """Acoustic frames [B, N, acoustic_width] to a waveform [B, N·hop, 1]; no final tanh.

    See docs/reference.md, Codec decoder.
    """

    def __init__(self, config: CodecConfig, *, rngs: nnx.Rngs):
        channels = [config.decoder_width // 2**i for i in range(len(config.strides) + 1)]
        self.strides = config.strides
        self.conv1 = Conv(config.acoustic_width, channels[0], 7, rngs=rngs)
        self.block = nnx.List(
            DecoderBlock(width, stride, rngs=rngs)
            for width, stride in zip(channels, config.strides, strict=False)
        )
        self.snake1 = Snake(channels[-1])
        self.conv2 = Conv(channels[-1], 1, 7, gain=0.1, rngs=rngs)  # waveforms are small numbers

    def __call__(self, x: Float[Array, "B N A"], lengths: Lengths) -> Float[Array, "B T 1"]:
        x = self.conv1(x, lengths)
        for block, stride in zip(self.block, self.strides, strict=True):
            x = block(x, lengths)
            lengths = scale_lengths(lengths, up=stride)
        return self.conv2(self.snake1(x), lengths)


def context_frames(strides: tuple[int, ...]) -> int:
    """Frames to either side of a frame that reach its samples through the decoder, counted back from the samples."""
    reach = sum(3 * dilation for dilation in _DILATIONS)
    low, high = -3, math.prod(strides) - 1 + 3  # what the last convolution reads for the samples of frame 0
    for stride in reversed(strides):
        start = -(-stride // 2)
        low, high = (low - reach + start) // stride - 1, (high + reach + start) // stride
    return max(3 - low, high + 3)
