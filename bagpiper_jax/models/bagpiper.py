"""Bagpiper: a Qwen3 decoder over eight token streams, with audio features written into its input."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax.batch import Batch
from bagpiper_jax.models import layers
from bagpiper_jax.models.audio_tower import AudioTower
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.decoder import Decoder
from bagpiper_jax.models.embedding import embed_streams


class Bagpiper(nnx.Module):
    """The trainable model (docs/reference.md, Model). The codec is separate.

    Attributes:
        decoder: embed_tokens [V, D], L layers stacked on a leading axis, norm [D].
        lm_head: [V, D], untied. Both tables may have more rows, see `BagpiperConfig.table_multiple`.
        stream_emb: [S, D], zero at first; its row 0 is never used (docs/reference.md, Embedding and head).
        adaptor: tower width → D.
        tower: the audio tower.
    """

    def __init__(self, config: BagpiperConfig, *, rngs: nnx.Rngs):
        width, std = config.decoder.width, config.decoder.init_std
        self.config = config
        self.decoder = Decoder(config.decoder, config.table_rows, rngs=rngs)
        self.lm_head = layers.normal(rngs, (config.table_rows, width), std)
        self.stream_emb = nnx.Param(jnp.zeros((config.vocabulary.num_streams, width)))
        self.adaptor = layers.Linear(config.tower.output_width, width, rngs=rngs)
        # The release's adaptor starts as torch's Linear does (docs/reference.md, Embedding and head).
        self.adaptor.kernel = layers.uniform(
            rngs, (config.tower.output_width, width), config.tower.output_width
        )
        self.adaptor.bias = layers.uniform(rngs, (width,), config.tower.output_width)
        self.tower = AudioTower(config.tower, rngs=rngs)

    def embed(self, tokens: Int[Array, "B T S"]) -> Float[Array, "B T D"]:
        """Sum of the streams' embeddings in the compute dtype (docs/reference.md, Embedding and head).

        Token 0 of stream 0 is the (never trained) row 0; token 0 of any other stream is nothing.
        """
        return embed_streams(self.decoder.embed_tokens[...], tokens, self.config.decoder.dtype)

    def audio_features(
        self,
        mel: Float[Array, "B C 100 M"],
        chunk_frames: Int[Array, "B C"],
        chunk_clip: Int[Array, "B C"],
        chunk_window: Int[Array, "B C"],
    ) -> Float[Array, "B C*13 D"]:
        """Tower and adaptor; arguments as `AudioTower`."""
        features = self.tower(mel, chunk_frames, chunk_clip, chunk_window)
        return self.adaptor(features.astype(self.config.decoder.dtype))

    def inputs(self, batch: Batch) -> Float[Array, "B T D"]:
        """Token embeddings, overwritten by audio features where `batch.audio_slot` is not negative."""
        x = self.embed(batch.tokens)
        if batch.mel.shape[1] == 0:
            return x
        features = self.audio_features(batch.mel, batch.chunk_frames, batch.chunk_clip, batch.chunk_window)
        slot = batch.audio_slot[..., None]
        return jnp.where(slot >= 0, jnp.take_along_axis(features, jnp.maximum(slot, 0), axis=1), x)

    def hidden(self, batch: Batch) -> Float[Array, "B T D"]:
        """Final-normed hidden states of packed rows."""
        return self.decoder(self.inputs(batch), batch.positions, batch.segment_ids)[0]

    def stream_offset(self, stream: int) -> Float[Array, " D"]:
        """What stream `stream` adds to the hidden state before the head; zero for stream 0."""
        return self.stream_emb[stream] if stream else jnp.zeros_like(self.stream_emb[0])

    def logits(self, hidden: Float[Array, "... D"], stream: int) -> Float[Array, "... V"]:
        """Float32 logits of one stream: all V ids for stream 0, the codec ids alone for the others.

        For generation; training never materialises them.
        """
        vocabulary = self.config.vocabulary
        head = self.lm_head[vocabulary.codec_start if stream else 0 : vocabulary.size]
        hidden = hidden + self.stream_offset(stream).astype(hidden.dtype)
        return jnp.einsum(
            "...d,vd->...v", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
