"""config.json of transformers' and vLLM's directories: written from our sizes, and compared with them before an import.

Shapes alone do not tell everything: a rotary base, an epsilon, a number of heads of the same total width change the
numbers without a word.
"""

import json
import logging
from pathlib import Path

from bagpiper_jax import vocabulary as v
from bagpiper_jax.interop.names import InterchangeError
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, CodecConfig, DecoderConfig

logger = logging.getLogger(__name__)

FILE = "config.json"
MAX_POSITIONS = 32_768
CHUNK_FRAMES, HALF_CHUNK = 100, 50

_DECODER = {
    "hidden_size": "width", "intermediate_size": "ffn_width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "num_key_value_heads": "kv_heads", "head_dim": "head_width",
    "rope_theta": "rope_theta", "rms_norm_eps": "norm_eps",
}  # fmt: skip
_TOWER = {
    "num_mel_bins": "mel_bins", "encoder_layers": "layers", "d_model": "width", "encoder_attention_heads": "heads",
    "encoder_ffn_dim": "ffn_width", "downsample_hidden_size": "conv_channels", "output_dim": "output_width",
}  # fmt: skip
_ACOUSTIC = {
    "encoder_hidden_size": "encoder_width", "decoder_hidden_size": "decoder_width",
    "downsampling_ratios": "strides", "upsampling_ratios": "strides", "hidden_size": "acoustic_width",
}  # fmt: skip
_SEMANTIC = {
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
        **_fields(_DECODER, config),
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
        **_fields(_TOWER, config),
    }


def codec(config: CodecConfig, dtype: str) -> dict:
    """transformers' XcodecConfig; its bandwidth is the one of all codebooks."""
    bits = config.num_codebooks * (config.codebook_size - 1).bit_length() * config.sample_rate / config.hop
    return {
        "architectures": ["XcodecModel"],
        "model_type": "xcodec",
        "torch_dtype": dtype,
        "sample_rate": config.sample_rate,
        "codebook_size": config.codebook_size,
        "codebook_dim": config.codebook_width,
        "target_bandwidths": [bits / 1000],
        "acoustic_model_config": {"model_type": "dac", **_fields(_ACOUSTIC, config)},
        "semantic_model_config": {"model_type": "hubert", **_fields(_SEMANTIC, config.semantic)},
    }


def _fields(table: dict[str, str], config) -> dict:
    values = {theirs: getattr(config, ours) for theirs, ours in table.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check(kind: str, directory: Path, model: BagpiperConfig, codec_config: CodecConfig) -> None:
    """Compares a checkpoint's config.json, if it has one, with our sizes.

    Args:
        kind: setting of `ImportConfig` that names the checkpoint.

    Raises:
        InterchangeError: fields that differ, each with the binding that would fit.
    """
    path = directory / FILE
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InterchangeError(f"{path} is broken: {error}") from error
    text, audio = _sections(kind, content)
    faults = _differences(_DECODER, text, model.decoder) + _differences(_TOWER, audio, model.tower)
    faults += _unsupported(text) + _windows(audio, model.tower)
    if kind == "xcodec":
        faults += _differences(_ACOUSTIC, content.get("acoustic_model_config", {}), codec_config)
        faults += _differences(_SEMANTIC, content.get("semantic_model_config", {}), codec_config.semantic)
    if kind == "espnet":
        faults += _layout(content, model.vocabulary)
    if faults:
        raise InterchangeError(f"{path} describes another model:\n  " + "\n  ".join(faults))


def _sections(kind: str, content: dict) -> tuple[dict, dict]:
    """The parts about decoder and tower."""
    if kind == "qwen3":
        return content, {}
    thinker = content.get("thinker_config", content)
    audio = thinker.get("audio_config", content if "d_model" in content else {})
    return (
        (content.get("text_config", {}), audio)
        if kind == "espnet"
        else ({}, audio if kind == "tower" else {})
    )


def _differences(table: dict[str, str], theirs: dict, ours) -> list[str]:
    theirs = {**theirs, **(theirs.get("rope_parameters") or {})}
    faults = []
    for name, field in table.items():
        value, own = theirs.get(name), getattr(ours, field)
        value = tuple(value) if isinstance(value, list) else value
        if value is not None and value != own:
            faults.append(f"{name} is {value}, ours {own}: bind {type(ours).__name__}.{field} = {value!r}")
    return faults


def _unsupported(text: dict) -> list[str]:
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    faults = [f"rope type {kind!r} is not supported"] if kind != "default" else []
    for name in ("attention_bias", "use_sliding_window", "num_experts"):
        if text.get(name):
            faults.append(f"{name} {text[name]} is not supported, only dense Qwen3 is")
    return faults


def _windows(audio: dict, config: AudioTowerConfig) -> list[str]:
    chunk, window = (
        audio.get("n_window", HALF_CHUNK),
        audio.get("n_window_infer", CHUNK_FRAMES * config.window_chunks),
    )
    if (chunk, window) == (100, 400):
        logger.warning(
            "n_window 100/400 are the serving override of the vLLM fork (docs/reference.md, Audio tower), not taken"
        )
        return []
    faults = [f"n_window {chunk} is not supported, only {HALF_CHUNK} is"] if chunk != HALF_CHUNK else []
    if window != CHUNK_FRAMES * config.window_chunks:
        faults.append(
            f"n_window_infer is {window}: bind AudioTowerConfig.window_chunks = {window // CHUNK_FRAMES}"
        )
    return faults


def _layout(content: dict, vocabulary: v.Vocabulary) -> list[str]:
    ours = layout(vocabulary)
    return [
        f"{name} is {content[name]}, this vocabulary's is {value}; its ids would mean something else"
        for name, value in ours.items()
        if name in content and content[name] != value
    ]


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
