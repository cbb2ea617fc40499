"""X-Codec: semantic and acoustic branches, one residual quantiser, one waveform decoder (docs/reference.md, Codec)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax.models.codecs.xcodec.acoustic import AcousticDecoder, AcousticEncoder
from bagpiper_jax.models.codecs.xcodec.hubert import SemanticModel
from bagpiper_jax.models.codecs.xcodec.layers import Lengths, scale_lengths, zero_past
from bagpiper_jax.models.codecs.xcodec.quantizer import ResidualQuantizer
from bagpiper_jax.models.codecs.xcodec.semantic import SemanticDecoder, SemanticEncoder
from bagpiper_jax.models.configs import CodecConfig


class XCodec(nnx.Module):
    def __init__(self, config: CodecConfig, *, rngs: nnx.Rngs):
        semantic = config.semantic.width
        self.hop = config.hop
        self.acoustic_encoder = AcousticEncoder(config, rngs=rngs)
        self.acoustic_decoder = AcousticDecoder(config, rngs=rngs)
        self.encoder_semantic = SemanticEncoder(semantic, rngs=rngs)
        self.decoder_semantic = SemanticDecoder(semantic, rngs=rngs)
        self.semantic_model = SemanticModel(config.semantic, rngs=rngs)
        self.fc = nnx.Linear(config.codebook_width, config.codebook_width, rngs=rngs)
        self.fc1 = nnx.Linear(config.codebook_width, semantic, rngs=rngs)
        self.fc2 = nnx.Linear(config.codebook_width, config.acoustic_width, rngs=rngs)
        self.quantizer = ResidualQuantizer(config)

    def semantic_features(self, waveform: Float[Array, "B T"], lengths: Lengths) -> Float[Array, "B N D"]:
        """HuBERT's features of a waveform whose valid part is a whole number of frames, centred on the frames."""
        padded = jnp.pad(waveform, ((0, 0), (self.hop // 2, self.hop // 2)))
        return self.semantic_model(padded, None if lengths is None else lengths + self.hop)

    def latent(self, waveform: Float[Array, "B T"], lengths: Lengths = None):
        """The vectors to quantise [B, N, W] and the semantic features [B, N, D] they contain.

        Samples beyond the last whole frame of a clip are ignored (docs/reference.md, Codec encoder).
        """
        frames = scale_lengths(lengths, down=self.hop)
        lengths = scale_lengths(frames, up=self.hop)
        waveform = waveform[:, : waveform.shape[1] // self.hop * self.hop]
        waveform = zero_past(waveform[..., None], lengths)
        features = self.semantic_features(waveform[..., 0], lengths)
        halves = self.acoustic_encoder(waveform, lengths), self.encoder_semantic(features, frames)
        return self.fc(jnp.concatenate(halves, axis=-1)), features

    def synthesize(self, quantized: Float[Array, "B N W"], frames: Lengths = None) -> Float[Array, "B T"]:
        """Quantised latent to waveform, T = N·hop."""
        return self.acoustic_decoder(self.fc2(quantized), frames)[..., 0]

    def encode(self, waveform: Float[Array, "B T"], lengths: Lengths = None) -> Int[Array, "B N S"]:
        return self.quantizer.encode(self.latent(waveform, lengths)[0])

    def decode(self, codes: Int[Array, "B N S"], frames: Lengths = None) -> Float[Array, "B T"]:
        return self.synthesize(self.quantizer.decode(codes), frames)
