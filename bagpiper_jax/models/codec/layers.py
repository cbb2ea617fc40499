"""Building blocks that never look past a clip's own end.

Arrays are channels-last [B, T, C]. `lengths` [B] counts the valid steps of each clip; None means all are valid.
A clip alone sees zeros beyond its end, so a padded clip must too: whatever reads its neighbours masks first.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

Lengths = Int[Array, "B"] | None


def zero_past(x: Float[Array, "B T C"], lengths: Lengths) -> Float[Array, "B T C"]:
    """Zeroes the steps at and after `lengths`."""
    if lengths is None:
        return x
    valid = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid[..., None], x, 0)


def scale_lengths(lengths: Lengths, up: int = 1, down: int = 1) -> Lengths:
    """Lengths after a change of rate."""
    return None if lengths is None else lengths * up // down


class Snake(nnx.Module):
    """x + sin²(αx) / (α + 1e-9) with a learned α per channel (reference section 4.4)."""

    def __init__(self, channels: int):
        self.alpha = nnx.Param(jnp.ones(channels))

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        alpha = self.alpha[...]
        return x + jnp.square(jnp.sin(alpha * x)) / (alpha + 1e-9)


class Conv(nnx.Conv):
    """A 1-D convolution, symmetrically padded, that masks its input."""

    def __init__(self, inputs, outputs, kernel, *, stride=1, dilation=1, padding=None, use_bias=True, rngs):
        padding = (kernel - 1) * dilation // 2 if padding is None else padding
        super().__init__(
            inputs,
            outputs,
            (kernel,),
            strides=(stride,),
            padding=((padding, padding),),
            kernel_dilation=(dilation,),
            use_bias=use_bias,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths = None) -> Float[Array, "B U O"]:
        return super().__call__(zero_past(x, lengths))


class Upsample(nnx.Module):
    """Transposed convolution with kernel 2·stride, padding ⌈stride/2⌉ and exactly stride·T outputs.

    Each input step yields 2·stride outputs of which one stride overlaps with the next step's, so one matrix
    product and one addition do the work of a transposed convolution (reference section 4.3).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.stride = stride
        init = nnx.initializers.variance_scaling(0.5, "fan_in", "truncated_normal", in_axis=0, out_axis=(1, 2))
        self.kernel = nnx.Param(init(rngs.params(), (inputs, 2 * stride, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "B T C"], lengths: Lengths = None) -> Float[Array, "B U O"]:
        batch, steps, _ = x.shape
        pieces = jnp.einsum("btc,cko->btko", zero_past(x, lengths), self.kernel[...])
        first, second = jnp.split(pieces, 2, axis=2)
        overlapped = _pad_steps(first, 0, 1) + _pad_steps(second, 1, 0)
        flat = overlapped.reshape(batch, (steps + 1) * self.stride, -1)
        start = -(-self.stride // 2)
        return flat[:, start : start + steps * self.stride] + self.bias[...]


def _pad_steps(x: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0)))
