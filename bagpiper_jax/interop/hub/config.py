"""config.json of transformers' and vLLM's directories, written from our sizes; `hub_sizes` reads them."""

from bagpiper_jax import vocabulary as v
from bagpiper_jax.models.configs import AudioTowerConfig, CodecConfig, DecoderConfig

FILE = "config.json"
MAX_POSITIONS = 32_768
CHUNK_FRAMES, HALF_CHUNK = 100, 50

DECODER = {
    "hidden_size": "width", "intermediate_size": "ffn_width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "num_key_value_heads": "kv_heads", "head_dim": "head_width",
    "rope_theta": "rope_theta", "rms_norm_eps": "norm_eps",
}  # fmt: skip
TOWER = {
    "num_mel_bins": "mel_bins", "encoder_layers": "layers", "d_model": "width", "encoder_attention_heads": "heads",
    "encoder_ffn_dim": "ffn_width", "downsample_hidden_size": "conv_channels", "output_dim": "output_width",
}  # fmt: skip
CODEC = {"sample_rate": "sample_rate", "codebook_size": "codebook_size", "codebook_dim": "codebook_width"}
ACOUSTIC = {
    "encoder_hidden_size": "encoder_width", "decoder_hidden_size": "decoder_width",
    "downsampling_ratios": "strides", "upsampling_ratios": "strides", "hidden_size": "acoustic_width",
}  # fmt: skip
SEMANTIC = {
    "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads",
    "intermediate_size": "ffn_width", "conv_dim": "conv_widths", "conv_kernel": "conv_kernels",
    "conv_stride": "conv_strides", "num_conv_pos_embeddings": "positional_kernel",
    "num_conv_pos_embedding_groups": "positional_groups", "layer_norm_eps": "norm_eps",
}  # fmt: skip
"""Their field → ours, in both directions."""


def decoder(config: DecoderConfig, vocabulary_size: int, dtype: str) -> dict:
    """transformers' Qwen3Config over the whole vocabulary."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "torch_dtype": dtype,
        "vocab_size": vocabulary_size,
        "max_position_embeddings": MAX_POSITIONS,
        "attention_bias": False,
        "hidden_act": "silu",
        "initializer_range": config.init_std,
        "tie_word_embeddings": False,
        "bos_token_id": v.BOS,
        "eos_token_id": v.EOS,
        "pad_token_id": v.PAD,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        **_fields(DECODER, config),
    }


def tower(config: AudioTowerConfig, dtype: str) -> dict:
    """transformers' Qwen3OmniMoeAudioEncoderConfig."""
    return {
        "architectures": ["Qwen3OmniMoeAudioEncoder"],
        "model_type": "qwen3_omni_moe_audio_encoder",
        "torch_dtype": dtype,
        "activation_function": "gelu",
        "n_window": HALF_CHUNK,
        "n_window_infer": CHUNK_FRAMES * config.window_chunks,
        "conv_chunksize": 500,
        "max_source_positions": 1500,
        **_fields(TOWER, config),
    }


def codec(config: CodecConfig, dtype: str) -> dict:
    """transformers' XcodecConfig; its bandwidth is the one of all codebooks."""
    bits = config.num_codebooks * (config.codebook_size - 1).bit_length() * config.sample_rate / config.hop
    return {
        "architectures": ["XcodecModel"],
        "model_type": "xcodec",
        "torch_dtype": dtype,
        **_fields(CODEC, config),
        "target_bandwidths": [bits / 1000],
        "acoustic_model_config": {"model_type": "dac", **_fields(ACOUSTIC, config)},
        "semantic_model_config": {"model_type": "hubert", **_fields(SEMANTIC, config.semantic)},
    }


def mel_preprocessor(config: AudioTowerConfig, sample_rate: int) -> dict:
    """preprocessor_config.json of Whisper's front end, which the tower hears through."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config.mel_bins,
        "sampling_rate": sample_rate,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": 30,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def codec_preprocessor(config: CodecConfig) -> dict:
    """preprocessor_config.json of the codec: sound as it is, in whole frames."""
    return {
        "feature_extractor_type": "DacFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sample_rate,
        "hop_length": config.hop,
        "padding_side": "right",
        "padding_value": 0.0,
    }


def _fields(table: dict[str, str], config) -> dict:
    values = {theirs: getattr(config, ours) for theirs, ours in table.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def layout(vocabulary: v.Vocabulary) -> dict[str, int]:
    """The fields that tell which id means what (docs/reference.md, vLLM directory)."""
    return {
        "vocab_size": vocabulary.size,
        "num_stream": vocabulary.num_streams,
        "codec_base_offset": vocabulary.codec_start,
        "codec_layer_size": vocabulary.stream_size,
        "text_token_offset": vocabulary.text_start,
        "text_token_end": vocabulary.codec_start,
    }
