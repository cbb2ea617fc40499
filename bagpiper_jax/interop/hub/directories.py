"""What stands beside the weights in an exported directory, so that transformers and vLLM open it by its path alone."""

import json
import os
from pathlib import Path

from bagpiper_jax import vocabulary as v
from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.hub import config as hub_config
from bagpiper_jax.interop.hub import vllm
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.text import JsonTokenizer, load_tokenizer
from bagpiper_jax.text import hub as hub_tokenizer

PREPROCESSOR = "preprocessor_config.json"


def describe(directory: Path, format: str, model: BagpiperConfig, codec: CodecConfig, dtype: str) -> None:
    """Writes config.json, and of what hears or sounds preprocessor_config.json.

    Args:
        directory: exists.
        format: of the export.
        model, codec: sizes.
        dtype: of the weights.
    """
    if format == "qwen3":
        decoder = hub_config.decoder(model.decoder, model.vocabulary.size, dtype)
        content = decoder | hub_config.layout(model.vocabulary)
    elif format == "tower":
        content = hub_config.tower(model.tower, dtype)
    elif format == "xcodec":
        content = hub_config.codec(codec, dtype)
    else:
        content = vllm.config_json(model, codec, dtype)
    _write(directory / hub_config.FILE, content)
    if format == "xcodec":
        _write(directory / PREPROCESSOR, hub_config.codec_preprocessor(codec))
    elif format in ("tower", "vllm"):
        _write(directory / PREPROCESSOR, hub_config.mel_preprocessor(model.tower, SAMPLE_RATE))


def write_tokenizer(directory: Path, spec: str, checkpoint: str | os.PathLike, model: BagpiperConfig) -> None:
    """Tokenizer files, the chat template and generation_config.json.

    Args:
        directory: of the export.
        spec: "byte", a tokenizer.json, or a directory with one; relative to the checkpoint or to here.
        checkpoint: what is exported.
        model: its vocabulary.

    Raises:
        InterchangeError: no such tokenizer, one that is no BPE, or one with more ids than the vocabulary has.
        TokenizerError: one that is broken.
    """
    source = _bytes_only() if spec == "byte" else _read(spec, Path(checkpoint))
    hub_tokenizer.write(directory, source, model.vocabulary, hub_config.MAX_POSITIONS)
    _write(
        directory / "generation_config.json",
        {"eos_token_id": v.EOS, "bos_token_id": v.BOS, "pad_token_id": v.PAD},
    )
    (directory / "chat_template.jinja").write_text(vllm.CHAT_TEMPLATE, encoding="utf-8")


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(spec: str, checkpoint: Path) -> dict:
    for path in (checkpoint / spec, Path(spec)):
        found = load_tokenizer(str(path)) if path.exists() else None
        if isinstance(found, JsonTokenizer):
            return json.loads(found.content)
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
