"""Model sizes as frozen dataclasses. The defaults are those of the 8B release (docs/reference.md, Model and Codec)."""

import dataclasses
import math
from typing import Literal

from bagpiper_jax.vocabulary import Vocabulary

Dtype = Literal["float32", "bfloat16"]
Remat = Literal["none", "dots", "attention", "full"]


def _require_sizes(config) -> None:
    """Raises ValueError unless every whole number is at least 1 and every other one is finite."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and value < 1 or isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{type(config).__name__}.{field.name} cannot be {value}")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Qwen3 decoder (docs/reference.md, Decoder).

    Attributes:
        layers, width, ffn_width: L, D and the gated feed-forward width.
        heads, kv_heads, head_width: H, grouped key/value heads, K.
        rope_theta, norm_eps: rotary base, RMSNorm epsilon.
        init_std: standard deviation of new embeddings, head rows and projections.
        dtype: compute dtype; parameters are float32.
        attention: named kernel, see `models.attention.kernels.KERNELS`; a kernel that cannot run is an error.
        remat: the name of what the backward pass recomputes per layer, see `layers.REMAT`.
    """

    layers: int = 36
    width: int = 4096
    ffn_width: int = 12288
    heads: int = 32
    kv_heads: int = 8
    head_width: int = 128
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    init_std: float = 0.02
    dtype: Dtype = "bfloat16"
    attention: Literal["dot_product", "splash", "mosaic", "triton", "cudnn"] = "dot_product"
    remat: Remat = "full"

    def __post_init__(self):
        _require_sizes(self)


@dataclasses.dataclass(frozen=True)
class AudioTowerConfig:
    """Qwen3-Omni audio tower (docs/reference.md, Audio tower).

    Attributes:
        mel_bins: M.
        layers, width, heads, ffn_width: transformer sizes.
        conv_channels: channels of the three stride-2 convolutions.
        output_width: width handed to the adaptor.
        window_chunks: 100-frame chunks per attention window (`n_window_infer` / 100).
        dtype: compute dtype.
        remat: the same choice as in `DecoderConfig`.
    """

    mel_bins: int = 128
    layers: int = 32
    width: int = 1280
    heads: int = 20
    ffn_width: int = 5120
    conv_channels: int = 480
    output_width: int = 2048
    window_chunks: int = 8
    dtype: Dtype = "bfloat16"
    remat: Remat = "full"

    def __post_init__(self):
        _require_sizes(self)


@dataclasses.dataclass(frozen=True)
class BagpiperConfig:
    """The whole model: decoder, tower, vocabulary. The codec is separate, it never runs in the train step.

    Attributes:
        decoder, tower, vocabulary: the configurations of the parts.
        table_multiple: embedding and head have a multiple of this many rows, so that they divide over any mesh. Rows
            beyond the vocabulary are never looked up, predicted or exported.
    """

    decoder: DecoderConfig = DecoderConfig()
    tower: AudioTowerConfig = AudioTowerConfig()
    vocabulary: Vocabulary = Vocabulary()
    table_multiple: int = 1

    def __post_init__(self):
        if self.table_multiple < 1:
            raise ValueError(f"table_multiple must be at least 1 row, got {self.table_multiple}")

    @property
    def table_rows(self) -> int:
        """Rows of embedding and head."""
        return -(-self.vocabulary.size // self.table_multiple) * self.table_multiple

    def with_tables(self, multiple: int) -> "BagpiperConfig":
        """The same model with another `table_multiple`; 1 is what everyone else stores."""
        return dataclasses.replace(self, table_multiple=multiple)


@dataclasses.dataclass(frozen=True)
class SemanticEncoderConfig:
    """HuBERT (docs/reference.md, Codec encoder).

    Attributes:
        width, layers, heads, ffn_width: sizes of the transformer.
        conv_widths, conv_kernels, conv_strides: channels, kernel and stride of each convolution over the waveform.
        positional_kernel, positional_groups: of the convolution that adds positions.
        norm_eps: epsilon of every norm.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: int = 3072
    conv_widths: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    positional_kernel: int = 128
    positional_groups: int = 16
    norm_eps: float = 1e-5


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """X-Codec (docs/reference.md, Codec).

    Attributes:
        sample_rate: Hz.
        strides: downsampling of the acoustic encoder; their product is the hop.
        encoder_width, decoder_width: first and last channel counts of the DAC stacks.
        acoustic_width: channels of the acoustic latent.
        codebook_size, codebook_width, num_codebooks: K, code vector width, S.
        semantic: the HuBERT branch; its stride product must equal the hop.

    Raises:
        ValueError: the branches disagree on the hop, or the codebooks do not hold both branches.
    """

    sample_rate: int = 16_000
    strides: tuple[int, ...] = (8, 5, 4, 2)
    encoder_width: int = 64
    decoder_width: int = 1024
    acoustic_width: int = 256
    codebook_size: int = 1024
    codebook_width: int = 1024
    num_codebooks: int = 8
    semantic: SemanticEncoderConfig = SemanticEncoderConfig()

    def __post_init__(self):
        if math.prod(self.semantic.conv_strides) != self.hop:
            raise ValueError(
                f"semantic conv_strides {self.semantic.conv_strides} must multiply to hop {self.hop}"
            )
        if self.codebook_width != self.acoustic_width + self.semantic.width:
            raise ValueError(
                f"codebook_width {self.codebook_width} must be acoustic_width {self.acoustic_width} "
                f"+ semantic width {self.semantic.width}"
            )
        if self.decoder_width % 2 ** len(self.strides):
            raise ValueError(f"decoder_width {self.decoder_width} must halve {len(self.strides)} times")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)
