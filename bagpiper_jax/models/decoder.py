"""The Qwen3 decoder (docs/reference.md, Decoder) over packed rows, with paged keys and values for generation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.models import layers
from bagpiper_jax.models.attention import kernels
from bagpiper_jax.models.attention.paged import PagedCache
from bagpiper_jax.models.configs import DecoderConfig


class Attention(nnx.Module):
    """Projections and per-head norms of grouped-query attention, without bias."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        width, head = config.width, config.head_width
        self.eps = config.norm_eps
        self.query = layers.normal(rngs, (width, config.heads, head), config.init_std)
        self.key = layers.normal(rngs, (width, config.kv_heads, head), config.init_std)
        self.value = layers.normal(rngs, (width, config.kv_heads, head), config.init_std)
        self.output = layers.normal(rngs, (config.heads, head, width), config.init_std)
        self.query_norm = nnx.Param(jnp.ones(head))
        self.key_norm = nnx.Param(jnp.ones(head))

    def project(
        self, x: Float[Array, "B T D"], angles: Float[Array, "B T 1 K2"]
    ) -> tuple[Float[Array, "B T H K"], Float[Array, "B T KV K"], Float[Array, "B T KV K"]]:
        """Rotated queries and keys, and values."""
        query, key, value = (
            layers.project(x, layers.gathered(weight[...], x.dtype, "embed", heads, None))
            for weight, heads in ((self.query, "heads"), (self.key, "kv_heads"), (self.value, "kv_heads"))
        )
        query = layers.rotate(layers.rms_norm(query, self.query_norm[...], self.eps), angles)
        key = layers.rotate(layers.rms_norm(key, self.key_norm[...], self.eps), angles)
        # Where slots are divided, attention gathers these, in this dtype, and nothing that they were made of.
        key, value = (parallel.constrain(x, "batch", "slots", "kv_heads") for x in (key, value))
        return query, key, value

    def combine(self, heads: Float[Array, "B T H K"]) -> Float[Array, "B T D"]:
        merged = heads.reshape(*heads.shape[:2], -1)
        output = layers.gathered(self.output[...], heads.dtype, "heads", None, "embed")
        return layers.project(merged, output.reshape(merged.shape[-1], -1))


class FeedForward(nnx.Module):
    """SiLU-gated feed-forward without bias."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.gate = layers.normal(rngs, (config.width, config.ffn_width), config.init_std)
        self.up = layers.normal(rngs, (config.width, config.ffn_width), config.init_std)
        self.down = layers.normal(rngs, (config.ffn_width, config.width), config.init_std)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        hidden = jax.nn.silu(layers.project(x, self.gate[...])) * layers.project(x, self.up[...])
        return layers.project(parallel.constrain(hidden, "batch", "slots", "mlp"), self.down[...])


class DecoderLayer(nnx.Module):
    """Pre-norm attention and feed-forward. `attend` maps (query, key, value) to heads, and may update a cache."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.eps = config.norm_eps
        self.attention_norm = nnx.Param(jnp.ones(config.width))
        self.attention = Attention(config, rngs=rngs)
        self.ffn_norm = nnx.Param(jnp.ones(config.width))
        self.ffn = FeedForward(config, rngs=rngs)

    def __call__(self, x: Float[Array, "B T D"], angles: Float[Array, "B T 1 K2"], attend) -> tuple[Any, Any]:
        projected = self.attention.project(layers.rms_norm(x, self.attention_norm[...], self.eps), angles)
        heads, cache = attend(*projected)
        x += self.attention.combine(heads)
        x += self.ffn(layers.rms_norm(x, self.ffn_norm[...], self.eps))
        return parallel.constrain(x, "batch", "slots", "activation"), cache


class Decoder(nnx.Module):
    """Embedding table, L scanned layers, final norm."""

    def __init__(self, config: DecoderConfig, vocabulary_size: int, *, rngs: nnx.Rngs):
        self.config = config
        self.embed_tokens = layers.normal(rngs, (vocabulary_size, config.width), config.init_std)
        self.layers = layers.stack(lambda rngs: DecoderLayer(config, rngs=rngs), config.layers, rngs)
        self.norm = nnx.Param(jnp.ones(config.width))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        segment_ids: Int[Array, "B T"],
        cache: PagedCache | None = None,
    ) -> tuple[Float[Array, "B T D"], PagedCache | None]:
        """Final-normed hidden states, and the cache after them.

        Without a cache, a slot sees the earlier slots of its own segment. With one, a row is one document: its
        tokens are stored from slot `cache.start` on, and each sees all of the row up to itself. The caller gives
        positions in both cases, and keeps rows within their pages.
        """
        config = self.config
        x = parallel.constrain(x.astype(config.dtype), "batch", "slots", "activation")
        angles = layers.rotary_angles(positions, config.head_width, config.rope_theta)
        if cache is None:
            kernel = kernels.kernel(config.attention)

            def layer(module, x):
                return module(x, angles, lambda q, k, v: (kernel(q, k, v, segment_ids), None))[0]

            x = layers.scan(self.layers, layer, x, config.remat)
        else:
            x, cache = self._append(x, angles, cache)
        return layers.rms_norm(x, self.norm[...], config.norm_eps), cache

    def _append(self, x, angles, cache: PagedCache) -> tuple[Any, PagedCache]:
        # The whole pool is carried, not scanned over, so that XLA updates it in place.
        def layer(module, carry):
            x, cache, index = carry
            x, cache = module(
                x, angles, lambda *projected: cache.attend(index, self.config.layers, *projected)
            )
            return x, cache, index + 1

        x, cache, _ = layers.scan(self.layers, layer, (x, cache, jnp.int32(0)), "none")
        return x, cache
