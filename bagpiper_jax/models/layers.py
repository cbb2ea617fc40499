"""Building blocks shared by the decoder and the audio tower: norms, projections, rotary positions, layer scan."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.models.adapters.lora import Adapted
from bagpiper_jax.models.quantized import Quantized


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
    """A float32 parameter drawn from N(0, std)."""
    return nnx.Param(std * jax.random.normal(rngs.params(), shape))


def uniform(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int) -> nnx.Param:
    """A float32 parameter drawn as torch draws Linear and Conv weights and biases, U(±1/sqrt(fan_in))."""
    limit = 1 / math.sqrt(fan_in)
    return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-limit, maxval=limit))


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float) -> Float[Array, "... D"]:
    """RMSNorm with float32 statistics; the result has the dtype of `x`."""
    wide = x.astype(jnp.float32)
    wide *= jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


class LayerNorm(nnx.Module):
    """LayerNorm with bias, float32 statistics, torch's epsilon."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        wide = x.astype(jnp.float32)
        wide -= jnp.mean(wide, axis=-1, keepdims=True)
        wide *= jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-5)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)


def project(
    x: Float[Array, "... I"], kernel: Float[Array, "I ..."] | Quantized | Adapted
) -> Float[Array, "..."]:
    """Contracts the last axis of `x` with the first of `kernel`, in the dtype of `x`.

    As one product of two matrices: XLA on CPU is twice as fast so, backward pass included. Not where slots are
    divided, whose axis can't be merged with that of rows.
    """
    if isinstance(kernel, Adapted):
        whole = project(x, kernel.base)
        change = project(project(kernel.seen(x), kernel.a), kernel.b) * kernel.scale.astype(x.dtype)
        return whole + change.reshape(whole.shape)
    if isinstance(kernel, Quantized):
        return (project(x, kernel.values) * kernel.scale).astype(x.dtype)
    mesh = parallel.mesh_in_use()
    if mesh and parallel.shards(mesh, "slots") > 1:
        return jnp.tensordot(x, kernel.astype(x.dtype), 1)
    flat = x.reshape(-1, x.shape[-1]) @ kernel.reshape(kernel.shape[0], -1).astype(x.dtype)
    return flat.reshape(*x.shape[:-1], *kernel.shape[1:])


def gathered(
    kernel: Float[Array, "..."] | Quantized | Adapted, dtype: Any, *axes: str | None
) -> Float[Array, "..."] | Quantized | Adapted:
    """A kernel of logical `axes` in `dtype`, gathered once for all products of a layer (`parallel.whole_width`)."""
    if isinstance(kernel, Adapted):
        return dataclasses.replace(kernel, base=gathered(kernel.base, dtype, *axes))
    return kernel if isinstance(kernel, Quantized) else parallel.whole_width(kernel.astype(dtype), axes)


class Linear(nnx.Module):
    """x @ kernel + bias in the dtype of `x`; the kernel keeps the variance of `x`, the bias starts at zero."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = normal(rngs, (inputs, outputs), 1 / math.sqrt(inputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        return project(x, self.kernel[...]) + self.bias.astype(x.dtype)


def rotary_angles(positions: Int[Array, "B T"], width: int, theta: float) -> Float[Array, "B T 1 K2"]:
    """Angle of each position and of each of the width/2 rotated pairs, rounded as transformers rounds it.

    A last bit of a frequency is a thousandth of a radian at position 30,000. Numpy's float32 power and XLA's are not
    torch's; the float64 power, rounded, is.
    """
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    frequency = np.float32(1) / np.power(theta, exponent.astype(np.float64)).astype(np.float32)
    return positions[..., None, None].astype(jnp.float32) * frequency


def rotate(x: Float[Array, "B T H K"], angles: Float[Array, "B T 1 K2"]) -> Float[Array, "B T H K"]:
    """Rotary embedding in the half-split layout of transformers: pair i is (x[i], x[i + K/2])."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def sinusoids(length: int, width: int) -> Float[Array, "N D"]:
    """Whisper's positions: the sine half, then the cosine half (docs/reference.md, Audio tower)."""
    rate = jnp.exp(-math.log(10_000) / (width // 2 - 1) * jnp.arange(width // 2))
    angles = jnp.arange(length)[:, None] * rate
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def stack(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> Any:
    """`layers` independently initialised modules as one, every parameter with a leading axis L."""
    return nnx.split_rngs(splits=layers)(nnx.vmap(make))(rngs)


def scan(layers: nnx.Module, body: Callable, carry: Any, remat: str) -> Any:
    """Folds `carry = body(layer, carry)` over stacked layers, so that one layer is compiled, not L.

    Args:
        layers: made by `stack`.
        body: called with one layer and the carry.
        carry: any pytree.
        remat: key of `REMAT`; ValueError otherwise.
    """
    graph, parameters = nnx.split(layers)
    step = _rematerialise(lambda carry, p: (body(nnx.merge(graph, p), carry), None), remat)
    return jax.lax.scan(step, carry, parameters)[0]


ATTENTION = "attention"
"""Name of what an attention kernel returns for the backward pass."""

REMAT: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda step: step,
    "dots": functools.partial(
        jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    ),
    "attention": functools.partial(
        jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(ATTENTION)
    ),
    "full": functools.partial(jax.checkpoint, prevent_cse=False),
}
"""What the backward pass recomputes per layer: nothing; all but matrix products; all but what the splash kernel
returned, other kernels run again; everything."""


def _rematerialise(step: Callable, name: str) -> Callable:
    if name not in REMAT:
        raise ValueError(f"unknown remat policy {name!r}; choose one of {sorted(REMAT)}")
    return REMAT[name](step)
