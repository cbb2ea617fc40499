"""Building blocks that never look past a clip's own end.

Arrays are channels-last [B, T, C]. `lengths` [B] counts the valid steps of each clip; None means all are valid.
A clip alone sees zeros beyond its end, so a padded clip must too: whatever reads its neighbours masks first.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

Lengths = Int[Array, "B"] | None

FOLD = 8
FOLDED_CHANNELS = 4
"""Convolutions with at most this many channels fold time into channels; with 8 it no longer pays on a CPU."""

RESIDUAL_GAIN = 0.2
"""Initial gain of what a residual unit adds: a stack of units starts near the identity."""


def zero_past(x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B T C"]:
    """Zeroes the steps at and after `lengths`."""
    if lengths is None:
        return x
    valid = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid[..., None], x, 0)


def scale_lengths(lengths: Lengths, up: int = 1, down: int = 1) -> Lengths:
    """Lengths after a change of rate."""
    return None if lengths is None else lengths * up // down


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(channels: Float[Array, "C"], shape: tuple[int, ...]) -> Float[Array, "B T C"]:
    """Broadcasts per-channel parameters.

    Its gradient is a sum over [B, T]. XLA's CPU backend would fuse that sum with what produces the summands and
    then run both as scalar code; a matrix product with ones is not fused.
    """
    return jnp.broadcast_to(channels, shape)


def _spread_forward(channels, shape):
    return spread(channels, shape), None


def _spread_backward(shape, _, gradient):
    rows = gradient.reshape(-1, shape[-1])
    return (jnp.ones(len(rows), rows.dtype) @ rows,)


spread.defvjp(_spread_forward, _spread_backward)


class Snake(nnx.Module):
    """x + sin²(αx) / (α + 1e-9) with a learned α per channel (docs/reference.md, Snake)."""

    def __init__(self, channels: int):
        self.alpha = nnx.Param(jnp.ones(channels))

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        alpha = spread(self.alpha[...], x.shape)
        return x + sine_squared(alpha * x) / (alpha + 1e-9)


def sine_squared(x: jax.Array) -> jax.Array:
    """sin²(x) to float32 accuracy for |x| below some thousands.

    The sine of XLA's CPU backend is scalar and took most of the codec's time; this vectorises. sin² has period π,
    so x is reduced to [-π/2, π/2] (π split in two, the first part exact in products) and a Taylor series does.
    """
    turns = jnp.round(x * (1 / math.pi))
    x = (x - turns * 3.140625) - turns * (math.pi - 3.140625)
    square = x * x
    series = -1 / math.factorial(11)
    for order in (9, 7, 5, 3, 1):
        series = series * square + (-1) ** (order // 2) / math.factorial(order)
    return jnp.square(x * series)


class Conv(nnx.Module):
    """A 1-D convolution, symmetrically padded, that masks its input. `gain` scales the initial weights."""

    def __init__(
        self, inputs, outputs, kernel, *, stride=1, dilation=1, padding=None, use_bias=True, gain=1.0, rngs
    ):
        init = nnx.initializers.variance_scaling(gain**2, "fan_in", "truncated_normal")
        self.kernel = nnx.Param(init(rngs.params(), (kernel, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.stride, self.dilation = stride, dilation
        self.padding = (kernel - 1) * dilation // 2 if padding is None else padding

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths = None) -> Float[Array, "B U O"]:
        if self.kernel.shape[0] == 1:  # reads no neighbours
            return self._add_bias(x @ self.kernel[0])
        x, kernel = zero_past(x, lengths), self.kernel[...]
        if self.stride == 1 and max(kernel.shape[1:]) <= FOLDED_CHANNELS and x.shape[1] % FOLD == 0:
            return self._add_bias(folded_convolution(x, kernel, self.dilation, self.padding, FOLD))
        x = _convolve(x, kernel, (self.padding, self.padding), self.stride, self.dilation)
        return self._add_bias(x)

    def _add_bias(self, x: jax.Array) -> jax.Array:
        return x if self.bias is None else x + spread(self.bias[...], x.shape)


def _convolve(x, kernel, padding: tuple[int, int], stride: int = 1, dilation: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,),
        padding=[padding],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )


def folded_convolution(x, kernel, dilation: int, padding: int, fold: int) -> Float[Array, "B T O"]:
    """A convolution with few channels, as one with `fold` times as many at 1/fold of the rate.

    Matrix and vector units are mostly idle with 4 channels. Here `fold` neighbouring steps become channels of one
    step, and the kernel becomes block-Toeplitz: more products, three to five times faster.
    """
    size, inputs, outputs = kernel.shape
    before = -(-padding // fold)  # blocks to the left that an output may read
    after = (fold - 1 + (size - 1) * dilation - padding) // fold
    block, source, target = np.ogrid[-before : after + 1, :fold, :fold]
    offset = block * fold + source - target + padding
    tap = np.where(
        (offset % dilation == 0) & (0 <= offset) & (offset < size * dilation), offset // dilation, size
    )
    taps = jnp.concatenate([kernel, jnp.zeros_like(kernel[:1])])[tap]  # [blocks, source, target, in, out]
    blocked = taps.transpose(0, 1, 3, 2, 4).reshape(-1, fold * inputs, fold * outputs)
    folded = x.reshape(len(x), -1, fold * inputs)
    return _convolve(folded, blocked, (before, after)).reshape(len(x), -1, outputs)


class Upsample(nnx.Module):
    """Transposed convolution with kernel 2·stride, padding ⌈stride/2⌉ and exactly stride·T outputs.

    Each input step yields 2·stride outputs of which one stride overlaps with the next step's, so one matrix
    product and one addition do the work of a transposed convolution (docs/reference.md, Codec decoder).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.stride = stride
        init = nnx.initializers.variance_scaling(
            0.5, "fan_in", "truncated_normal", in_axis=0, out_axis=(1, 2)
        )
        self.kernel = nnx.Param(init(rngs.params(), (inputs, 2 * stride, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths = None) -> Float[Array, "B U O"]:
        batch, steps, _ = x.shape
        pieces = jnp.einsum("btc,cko->btko", zero_past(x, lengths), self.kernel[...])
        first, second = jnp.split(pieces, 2, axis=2)
        overlapped = _pad_steps(first, 0, 1) + _pad_steps(second, 1, 0)
        flat = overlapped.reshape(batch, (steps + 1) * self.stride, -1)
        start = -(-self.stride // 2)
        return flat[:, start : start + steps * self.stride] + spread(
            self.bias[...], x.shape[:1] + (steps * self.stride, self.bias.shape[0])
        )


def _pad_steps(x: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0)))
