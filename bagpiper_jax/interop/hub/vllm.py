"""config.json and chat template of the directory that ESPnet's vLLM fork serves (docs/reference.md, vLLM directory)."""

from bagpiper_jax import vocabulary as v
from bagpiper_jax.interop.hub import config as hub_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig

CODEC_TAG = "hf-audio/xcodec-hubert-general"
"""Where the fork fetches the codec; it does not read the one in the directory."""

CHAT_TEMPLATE = """\
{{- '<|bos|>' -}}
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if '<|audio|>' not in message['content'] -%}{{- '<|text|>' -}}{%- endif -%}
{{- message['content'] + '<|eos|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""As the fork's: every turn ends with eos, also where training has eot between two messages of one role."""

_TOKENS = ("pad", "bos", "eos", "eot", "system", "user", "assistant", "text", "audio")


def config_json(model: BagpiperConfig, codec: CodecConfig, dtype: str) -> dict:
    """config.json with the backbone's windows and positions, not the fork's legacy overrides."""
    decoder = hub_config.decoder(model.decoder, model.vocabulary.size, dtype)
    tower = hub_config.tower(model.tower, dtype)
    for part in (decoder, tower):
        del part["architectures"], part["torch_dtype"]
    decoder["rope_theta"] = model.decoder.rope_theta  # where transformers 4 looks for it
    return {
        "architectures": ["BagpiperForConditionalGeneration"],
        "model_type": "bagpiper",
        "torch_dtype": dtype,
        "audio_config": {**tower, "model_type": "bagpiper_audio_encoder"},
        "text_config": {**decoder, "model_type": "bagpiper_text"},
        **hub_config.layout(model.vocabulary),
        "hidden_size": model.decoder.width,
        "adaptor_input_dim": model.tower.output_width,
        "initializer_range": model.decoder.init_std,
        "audio_temperature": 0.8,
        "audio_topk": 20,
        "text_temperature": 0.6,
        "text_topk": 20,
        "xcodec_hf_model_tag": CODEC_TAG,
        "xcodec_sample_rate": codec.sample_rate,
        "codec_config": hub_config.codec(
            codec, dtype
        ),  # of the one in the weights; the fork does not read it
        **{f"{name}_token_id": i for i, name in enumerate(_TOKENS)},
        "audio_placeholder_token_id": v.AUDIO,
    }
