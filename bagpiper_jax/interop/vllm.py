"""The directory that ESPnet's vLLM fork serves: configuration and tokenizer (docs/reference.md, vLLM directory)."""

import json
import os
from pathlib import Path

from bagpiper_jax import vocabulary as v
from bagpiper_jax.interop import hub_config
from bagpiper_jax.interop.names import InterchangeError
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.text import JsonTokenizer
from bagpiper_jax.text import hub as hub_tokenizer

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
        **{f"{name}_token_id": i for i, name in enumerate(_TOKENS)},
        "audio_placeholder_token_id": v.AUDIO,
    }


def write_tokenizer(directory: Path, spec: str, checkpoint: str | os.PathLike, model: BagpiperConfig) -> None:
    """Tokenizer files, the chat template and generation_config.json.

    Args:
        directory: of the export.
        spec: "byte", a tokenizer.json, or a directory with one; relative to the checkpoint or to here.
        checkpoint: what is exported.
        model: its vocabulary.

    Raises:
        InterchangeError: no such tokenizer, one that is no BPE, or one with more ids than the vocabulary has.
    """
    source = _bytes_only() if spec == "byte" else _read(spec, Path(checkpoint))
    hub_tokenizer.write(directory, source, model.vocabulary, hub_config.MAX_POSITIONS)
    generation = {"eos_token_id": v.EOS, "bos_token_id": v.BOS, "pad_token_id": v.PAD}
    (directory / "generation_config.json").write_text(json.dumps(generation) + "\n", encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _read(spec: str, checkpoint: Path) -> dict:
    for path in (Path(spec), checkpoint / spec):
        path = path / "tokenizer.json" if path.is_dir() else path
        if path.is_file():
            return json.loads(JsonTokenizer(str(path)).content)
    raise InterchangeError(f"tokenizer {spec!r} not found; give ExportConfig.tokenizer")


def _bytes_only() -> dict:
    """UTF-8 bytes as a BPE without merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(_byte_characters())}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return json.loads(tokenizer.to_str())


def _byte_characters() -> list[str]:
    """The character by which byte-level BPE writes each byte: itself if it prints, else one from 256 on."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printing else next(others)) for byte in range(256)]
