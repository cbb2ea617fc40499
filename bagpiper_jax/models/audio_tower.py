"""The Qwen3-Omni audio tower (docs/reference.md, Audio tower) on chunks of fixed shape."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.models import layers
from bagpiper_jax.models.attention.xla import windowed
from bagpiper_jax.models.configs import AudioTowerConfig

CHUNK_FRAMES = 100
CHUNK_TOKENS = 13
_WIDE = 128
"""Channels from which on a CPU convolves by rows."""


def halved(length):
    """Length after one convolution of stride 2, kernel 3, padding 1; three of them turn 100 frames into 13."""
    return (length + 1) // 2


class Convolution(nnx.Module):
    """3×3 convolution of stride 2 over time and mel bins, then GELU."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        # He's scale, for towers trained from scratch: with torch's default a clip's own features start a hundred
        # times smaller than the positions added to them, and training does not find them.
        self.kernel = layers.normal(rngs, (3, 3, inputs, outputs), math.sqrt(2 / (9 * inputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "N F M I"]) -> Float[Array, "N F2 M2 O"]:
        kernel = self.kernel.astype(x.dtype)
        if kernel.shape[2] >= _WIDE:
            x = jax.lax.platform_dependent(x, kernel, cpu=by_rows, default=_convolve)
        else:
            x = _convolve(x, kernel)
        return jax.nn.gelu(x + self.bias.astype(x.dtype), approximate=False)


def _convolve(x: Float[Array, "N F M I"], kernel: Float[Array, "3 3 I O"]) -> Float[Array, "N F2 M2 O"]:
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_rows(x: Float[Array, "N F M I"], kernel: Float[Array, "3 3 I O"]) -> Float[Array, "N F2 M2 O"]:
    """The same as a sum of three convolutions over mel bins alone, which XLA's CPU backend runs at twice the speed."""
    count, frames = len(x), halved(x.shape[1])
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = (x[:, i : i + 2 * frames - 1 : 2].reshape(count * frames, *x.shape[2:]) for i in range(3))
    below, here, above = (
        jax.lax.conv_general_dilated(row, k, (2,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC"))
        for row, k in zip(rows, kernel, strict=True)
    )
    found = below + here + above
    return found.reshape(count, frames, *found.shape[1:])


class TowerLayer(nnx.Module):
    """Pre-norm bidirectional attention and GELU feed-forward, with biases."""

    def __init__(self, config: AudioTowerConfig, *, rngs: nnx.Rngs):
        self.heads = config.heads
        self.span = CHUNK_TOKENS * config.window_chunks
        self.attention_norm = layers.LayerNorm(config.width)
        self.query = layers.Linear(config.width, config.width, rngs=rngs)
        self.key = layers.Linear(config.width, config.width, rngs=rngs)
        self.value = layers.Linear(config.width, config.width, rngs=rngs)
        self.output = layers.Linear(config.width, config.width, rngs=rngs)
        self.ffn_norm = layers.LayerNorm(config.width)
        self.fc1 = layers.Linear(config.width, config.ffn_width, rngs=rngs)
        self.fc2 = layers.Linear(config.ffn_width, config.width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N D"], windows: Int[Array, "B N"], heard: Int[Array, "B N"]
    ) -> Float[Array, "B N D"]:
        normed = self.attention_norm(x)
        query, key, value = (
            project(normed).reshape(*x.shape[:2], self.heads, -1)
            for project in (self.query, self.key, self.value)
        )
        x += self.output(windowed(query, key, value, windows, heard, self.span).reshape(x.shape))
        x += self.fc2(jax.nn.gelu(self.fc1(self.ffn_norm(x)), approximate=False))
        return parallel.constrain(x, "batch", "slots", "activation")


class AudioTower(nnx.Module):
    """Mel chunks to features, 13 per chunk of 100 frames.

    The original pads the chunks of a call to the longest of them, so its last convolution column of a clip under
    100 frames depends on the clip's batch mates; from 100 frames on nothing does. Here chunks are always padded
    to 100 frames, and the activations beyond the end of a clip under 100 frames are zeroed, as the borders of its
    image are when it is alone. Every clip therefore equals the original's result for that clip alone.
    """

    def __init__(self, config: AudioTowerConfig, *, rngs: nnx.Rngs):
        channels, bins = config.conv_channels, config.mel_bins
        for _ in range(3):
            bins = halved(bins)
        self.config = config
        self.conv1 = Convolution(1, channels, rngs=rngs)
        self.conv2 = Convolution(channels, channels, rngs=rngs)
        self.conv3 = Convolution(channels, channels, rngs=rngs)
        # As strong as the positions it is added to: a clip must be heard before its length is.
        self.conv_out = layers.normal(rngs, (channels, bins, config.width), 4 / math.sqrt(channels * bins))
        self.layers = layers.stack(lambda rngs: TowerLayer(config, rngs=rngs), config.layers, rngs)
        self.norm = layers.LayerNorm(config.width)
        self.proj1 = layers.Linear(config.width, config.width, rngs=rngs)
        self.proj2 = layers.Linear(config.width, config.output_width, rngs=rngs)

    def __call__(
        self,
        mel: Float[Array, "B C 100 M"],
        chunk_frames: Int[Array, "B C"],
        chunk_clip: Int[Array, "B C"],
        chunk_window: Int[Array, "B C"],
    ) -> Float[Array, "B C*13 D"]:
        """Features of every chunk; of chunk c, only the first g(chunk_frames[c]) of its 13 mean anything.

        Args:
            mel: log-mel chunks, zero beyond `chunk_frames`.
            chunk_frames: valid frames, 0 for padding chunks.
            chunk_clip: 1, 2, … per clip of the row, 0 for padding.
            chunk_window: 1, 2, … per attention window of the row, 0 for padding.
        """
        rows, chunks = chunk_frames.shape
        x = self._embed(mel.astype(self.config.dtype), chunk_frames, chunk_clip)
        tokens = halved(halved(halved(chunk_frames)))
        valid = (jnp.arange(CHUNK_TOKENS) < tokens[..., None]).reshape(rows, -1)
        windows = jnp.repeat(chunk_window, CHUNK_TOKENS, axis=1)
        heard = jnp.where(valid, windows, -1)
        x = parallel.constrain(x.reshape(rows, chunks * CHUNK_TOKENS, -1), "batch", "slots", "activation")
        x = layers.scan(self.layers, lambda layer, x: layer(x, windows, heard), x, self.config.remat)
        return self.proj2(jax.nn.gelu(self.proj1(self.norm(x)), approximate=False))

    def _embed(self, mel, chunk_frames, chunk_clip) -> Float[Array, "B*C 13 D"]:
        alone = jnp.sum(chunk_clip[:, :, None] == chunk_clip[:, None, :], axis=-1) == 1
        end = jnp.where(alone, chunk_frames, CHUNK_FRAMES).reshape(-1)
        x = mel.reshape(-1, *mel.shape[2:])[..., None]
        for convolution in (self.conv1, self.conv2, self.conv3):
            x, end = convolution(x), halved(end)
            inside = jnp.arange(x.shape[1]) < end[:, None]
            x = jnp.where(inside[..., None, None], x, 0)
        x = jnp.einsum("ntfc,cfd->ntd", x, self.conv_out.astype(x.dtype))
        return x + layers.sinusoids(x.shape[1], x.shape[2]).astype(x.dtype)
