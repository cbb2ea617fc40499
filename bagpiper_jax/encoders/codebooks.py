"""Codebooks that follow their data: running means, starting from data, dead codes restarted.

The straight-through gradient reaches the encoder; the codebooks themselves take none.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bagpiper_jax.models.codecs.xcodec.quantizer import nearest

Books = dict[str, Array]
"""inited [S,1], cluster_size [S,K], embed and embed_avg [S,K,W]: the quantiser's buffers."""


@dataclasses.dataclass(frozen=True)
class CodebookConfig:
    """How codebooks move.

    Attributes:
        decay: the decay of the running means, per step.
        dead_share: a code used less than this share of the even use is restarted at a vector of the batch. It
            starts at twice that share, so while the encoder still moves an unlucky code soon gets another chance.
        dropout: probability that a clip keeps only a random number of leading streams, so that these carry
            what matters most.
        bypass_steps: the step until which a shrinking share of clips reaches the decoder unquantised, so that encoder
            and decoder learn together before the codebooks have settled.
    """

    decay: float = 0.95
    dead_share: float = 0.1
    dropout: float = 0.3
    bypass_steps: int = 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
    """Latents with straight-through gradient, of all kept streams and of the first alone; codes, the commitment
    loss, the codebooks afterwards."""

    latent: Float[Array, "B N W"]
    first: Float[Array, "B N W"]
    codes: Int[Array, "B N S"]
    commitment: Float[Array, ""]
    books: Books


def quantize(
    latent: Float[Array, "B N W"], books: Books, step: Array, key: jax.Array, config: CodebookConfig
) -> Quantized:
    """Quantises and learns from the batch of one training step."""
    streams = books["embed"].shape[0]
    flat = latent.reshape(-1, latent.shape[-1])

    def stream(residual, scanned):
        book, key = scanned
        start_key, restart_key = jax.random.split(key)
        book = _start(book, jax.lax.stop_gradient(residual), start_key)
        codes = nearest(jax.lax.stop_gradient(residual), book["embed"])
        chosen = book["embed"][codes]
        commitment = jnp.square(residual - chosen).mean()
        book = _follow(book, jax.lax.stop_gradient(residual), codes, restart_key, config)
        return residual - chosen, (codes, chosen, commitment, book)

    keep_key, bypass_key, *keys = jax.random.split(key, streams + 2)
    _, (codes, chosen, commitment, books) = jax.lax.scan(stream, flat, (books, jnp.stack(keys)))
    chosen = chosen.reshape(streams, *latent.shape)
    kept = _kept_streams(keep_key, len(latent), streams, config.dropout)
    total = (chosen * kept[:, :, None, None]).sum(0)
    share = jnp.clip(1 - step / config.bypass_steps, 0, 1) if config.bypass_steps else 0.0
    bypassed = jax.random.bernoulli(bypass_key, share, (len(latent), 1, 1))
    straight, first = (
        latent + jax.lax.stop_gradient(jnp.where(bypassed, 0, x - latent)) for x in (total, chosen[0])
    )
    codes = jnp.moveaxis(codes.reshape(streams, *latent.shape[:2]), 0, -1)
    return Quantized(straight, first, codes, commitment.mean(), books)


def _kept_streams(key: jax.Array, clips: int, streams: int, dropout: float) -> Float[Array, "S B"]:
    count_key, drop_key = jax.random.split(key)
    count = jax.random.randint(count_key, (clips,), 1, streams + 1)
    count = jnp.where(jax.random.bernoulli(drop_key, dropout, (clips,)), count, streams)
    return (jnp.arange(streams)[:, None] < count[None, :]).astype(jnp.float32)


def _sample(vectors: Float[Array, "n W"], count: int, key: jax.Array) -> Float[Array, "K W"]:
    """`count` of the vectors, drawn with replacement and jittered so that no two are equal."""
    pick_key, noise_key = jax.random.split(key)
    picked = vectors[jax.random.randint(pick_key, (count,), 0, len(vectors))]
    return picked + 0.01 * vectors.std() * jax.random.normal(noise_key, picked.shape)


def _start(book: Books, residual: Float[Array, "n W"], key: jax.Array) -> Books:
    """An empty codebook takes vectors of the first batch."""
    size = book["embed"].shape[0]
    fresh = _sample(residual, size, key)
    even = jnp.full((size,), len(residual) / size)
    empty = book["inited"][0] == 0
    return {
        "inited": jnp.ones_like(book["inited"]),
        "cluster_size": jnp.where(empty, even, book["cluster_size"]),
        "embed": jnp.where(empty, fresh, book["embed"]),
        "embed_avg": jnp.where(empty, fresh * even[:, None], book["embed_avg"]),
    }


def _follow(
    book: Books, residual: Float[Array, "n W"], codes: Int[Array, "n"], key: jax.Array, config: CodebookConfig
) -> Books:
    size = book["embed"].shape[0]
    chosen = jax.nn.one_hot(codes, size, dtype=residual.dtype)
    count = config.decay * book["cluster_size"] + (1 - config.decay) * chosen.sum(0)
    total = config.decay * book["embed_avg"] + (1 - config.decay) * chosen.T @ residual
    even = count.sum() / size
    dead = count < config.dead_share * even
    start = 2 * config.dead_share * even
    count = jnp.where(dead, start, count)
    total = jnp.where(dead[:, None], _sample(residual, size, key) * start, total)
    return {
        "inited": book["inited"],
        "cluster_size": count,
        "embed": total / count[:, None],
        "embed_avg": total,
    }
