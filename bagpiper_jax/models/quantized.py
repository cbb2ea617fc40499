"""The decoder's matrices in int8, with a scale for each output channel.

A step that generates is as fast as it reads its matrices, and int8 is half of bfloat16. Products stay in the compute
dtype: whole numbers up to 127 are exact in any, and a channel's scale can wait until its sum is there.
"""

import dataclasses
import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

INPUTS = {
    "decoder/layers/attention/query": 1,
    "decoder/layers/attention/key": 1,
    "decoder/layers/attention/value": 1,
    "decoder/layers/attention/output": 2,
    "decoder/layers/ffn/gate": 1,
    "decoder/layers/ffn/up": 1,
    "decoder/layers/ffn/down": 1,
}
"""Path of each matrix → how many of its axes are inputs, which a product sums over; those of the layers come first."""

_LARGEST = 127


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
    """A matrix [I, …, O, …] of whole numbers from -127 to 127; it stands where a parameter's array would.

    Attributes:
        values: int8, of the matrix's shape.
        scale: float32 [O, …]; what 1 is worth in each output channel.
    """

    values: Any
    scale: Any

    def __getitem__(self, index: types.EllipsisType) -> "Quantized":
        """All of it: modules read every parameter as `weight[...]`."""
        return self

    def reshape(self, *shape: int) -> "Quantized":
        """The same with other axes of inputs; those of the outputs stay."""
        return dataclasses.replace(self, values=self.values.reshape(*shape))


def quantize(matrix: Float[Array, "L *IO"], inputs: int) -> Quantized:
    """Rounds a matrix of every layer to int8, the largest number of each output channel to 127.

    A channel of zeros stays one, and one that holds what is no number gives no numbers.

    Args:
        matrix: the stacked matrices of L layers.
        inputs: how many axes behind the first are inputs.
    """
    where = _placed(matrix.sharding, inputs)
    return jax.jit(rounded, static_argnames="inputs", out_shardings=where)(matrix, inputs=inputs)


def rounded(matrix: Float[Array, "L *IO"], inputs: int) -> Quantized:
    """The same within a program that is being traced."""
    axes = tuple(range(1, 1 + inputs))
    largest = jnp.max(jnp.abs(matrix), axis=axes, keepdims=True)
    scale = jnp.where(largest == 0, 1, largest / _LARGEST)
    return Quantized(jnp.round(matrix / scale).astype(jnp.int8), jnp.squeeze(scale, axes))


def abstract(matrix: jax.ShapeDtypeStruct, inputs: int) -> Quantized:
    """Shapes, dtypes and shardings of what `quantize` makes of a matrix."""
    where = _placed(matrix.sharding, inputs)
    alone = jax.ShapeDtypeStruct(matrix.shape, matrix.dtype)
    shapes = jax.eval_shape(functools.partial(rounded, inputs=inputs), alone)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where)


def _placed(sharding: Sharding, inputs: int) -> Quantized:
    """Where values and scales lie: with the matrix, and with its output channels."""
    if not isinstance(sharding, NamedSharding):
        return Quantized(sharding, sharding)
    outputs = P(*sharding.spec[:1], *sharding.spec[1 + inputs :])
    return Quantized(sharding, NamedSharding(sharding.mesh, outputs))
