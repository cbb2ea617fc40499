"""Residual vector quantisation with Euclidean codebooks (docs/reference.md, Codec encoder)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax.models.configs import CodecConfig


class CodebookVariable(nnx.Variable):
    """Codebook state, moved by running means rather than by gradients."""


class ResidualQuantizer(nnx.Module):
    """S codebooks of K vectors, stacked; names are those of the release's buffers.

    See docs/reference.md, Codec tensor names.
    """

    def __init__(self, config: CodecConfig):
        shape = (config.num_codebooks, config.codebook_size)
        self.inited = CodebookVariable(jnp.zeros((config.num_codebooks, 1)))
        self.cluster_size = CodebookVariable(jnp.zeros(shape))
        self.embed = CodebookVariable(jnp.zeros((*shape, config.codebook_width)))
        self.embed_avg = CodebookVariable(jnp.zeros((*shape, config.codebook_width)))

    def encode(self, latent: Float[Array, "B N W"]) -> Int[Array, "B N S"]:
        """Nearest code, subtract, S times. Ties go to the lower code."""

        def step(residual, book):
            codes = nearest(residual, book)
            return residual - book[codes], codes

        _, codes = jax.lax.scan(step, latent, self.embed[...])
        return jnp.moveaxis(codes, 0, -1)

    def decode(self, codes: Int[Array, "B N S"]) -> Float[Array, "B N W"]:
        """The sum of the code vectors."""

        def step(total, book_and_codes):
            book, stream = book_and_codes
            return total + book[stream], None

        zero = jnp.zeros((*codes.shape[:-1], self.embed.shape[-1]), self.embed.dtype)
        total, _ = jax.lax.scan(step, zero, (self.embed[...], jnp.moveaxis(codes, -1, 0)))
        return total


def nearest(x: Float[Array, "... W"], book: Float[Array, "K W"]) -> Int[Array, "..."]:
    """Index of the nearest book vector.

    |x|² does not change the winner in exact arithmetic; it is kept so that float32 rounds as the release does.
    """
    square = jnp.square(x).sum(-1, keepdims=True)
    distance = square - 2 * x @ book.T + jnp.square(book).sum(-1)
    return jnp.argmin(distance, axis=-1).astype(jnp.int32)
