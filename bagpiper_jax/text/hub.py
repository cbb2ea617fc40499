"""The text tokenizer among all ids of the model, as vLLM and transformers read it, and back.

See docs/reference.md, vLLM directory.

In an exported directory `!` is 256 and `<think>` 151,923: every text id is shifted behind the specials, which, with
the codec ids, are tokens by name.
"""

import json
from pathlib import Path

from bagpiper_jax import vocabulary as v
from bagpiper_jax.text.faults import TokenizerError
from bagpiper_jax.vocabulary import Vocabulary

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"

_NAMES = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}
_FIRST_CODEC_ID = "<codec_layer0_pad>"


def write(directory: Path, source: dict, vocabulary: Vocabulary, max_length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json, vocab.json, merges.txt, added_tokens.json, special_tokens_map.json.

    Args:
        directory: exists.
        source: content of the text tokenizer's tokenizer.json.
        vocabulary: the model's vocabulary, which names every id that is no text.
        max_length: tokens that the model takes.

    Raises:
        TokenizerError: as `shift`.
    """
    shifted = shift(source, vocabulary)
    text = {t["content"]: t["id"] + v.NUM_SPECIALS for t in source.get("added_tokens", [])}
    plain = {t["content"] for t in source.get("added_tokens", []) if not t["special"]}
    added = sorted({**_others(vocabulary), **text}.items(), key=lambda item: item[1])
    contents = {
        FILE: shifted,
        CONFIG: {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
            "added_tokens_decoder": {str(i): _added(token, token not in plain) for token, i in added},
            **_NAMES,
        },
        "vocab.json": {token: i + v.NUM_SPECIALS for token, i in source["model"]["vocab"].items()},
        "added_tokens.json": dict(added),
        "special_tokens_map.json": _NAMES,
    }
    for name, content in contents.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    merges = [" ".join(pair) for pair in _pairs(source)]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")


def shift(source: dict, vocabulary: Vocabulary) -> dict:
    """A tokenizer.json whose text ids are those of the model, and which knows every other id by its name.

    Its `added_tokens` are empty, as the release's are: transformers takes them from tokenizer_config.json. A
    post-processor that puts tokens around a text is left out: dialogues of the model have marks of their own.

    Raises:
        TokenizerError: no BPE, more text ids than the vocabulary has, or tokens with names of the model's own.
    """
    if source["model"].get("type") != "BPE":
        raise TokenizerError(f"the tokenizer is a {source['model'].get('type')}, the export needs a BPE")
    text = {**source["model"]["vocab"], **{t["content"]: t["id"] for t in source.get("added_tokens", [])}}
    if max(text.values()) >= vocabulary.text_size:
        raise TokenizerError(
            f"the tokenizer has ids up to {max(text.values())}, Vocabulary.text_size is {vocabulary.text_size}"
        )
    shifted, others = {token: i + v.NUM_SPECIALS for token, i in text.items()}, _others(vocabulary)
    if taken := sorted(shifted.keys() & others.keys()):
        raise TokenizerError(
            f"the tokenizer has tokens that bear names of the model's own, {', '.join(taken[:5])}; rename them there"
        )
    return {
        **source,
        **({"post_processor": None} if _adds_tokens(source.get("post_processor") or {}) else {}),
        "added_tokens": [],
        "model": {**source["model"], "vocab": {**others, **shifted}},
    }


def _adds_tokens(post_processor: dict) -> bool:
    kinds = {part.get("type") for part in post_processor.get("processors") or [post_processor]}
    return bool(kinds & {"TemplateProcessing", "BertProcessing", "RobertaProcessing"})


def is_shifted(content: str) -> bool:
    """Whether the text of a tokenizer.json is of the whole model."""
    return f'"{_FIRST_CODEC_ID}"' in content and '"<|assistant|>"' in content


def restore(shifted: dict, config: dict) -> dict:
    """Inverts `shift`.

    Added tokens are known by no merge making them, so that it matters not where a directory declares them.

    Args:
        shifted: content of tokenizer.json.
        config: content of tokenizer_config.json; tells which added tokens are special, and may be empty.
    """
    whole, made = shifted["model"]["vocab"], {"".join(pair) for pair in _pairs(shifted)}
    end = whole[_FIRST_CODEC_ID]
    text = {token: i - v.NUM_SPECIALS for token, i in whole.items() if v.NUM_SPECIALS <= i < end}
    learned = {token: i for token, i in text.items() if len(token) == 1 or token in made}
    declared = {t["content"]: t for t in config.get("added_tokens_decoder", {}).values()}
    added = [
        {"id": i, **declared.get(token, _added(token, special=False))}
        for token, i in sorted(text.items(), key=lambda item: item[1])
        if token not in learned
    ]
    # The library numbers added tokens behind all others, whatever their id says, unless the vocabulary has them.
    last = max(learned.values(), default=0)
    within = {token: i for token, i in text.items() if i < last}
    return {**shifted, "added_tokens": added, "model": {**shifted["model"], "vocab": learned | within}}


def _others(vocabulary: Vocabulary) -> dict[str, int]:
    """Every id that is no text, by its name."""
    ids = [*range(v.NUM_SPECIALS), *range(vocabulary.codec_start, vocabulary.size)]
    return {vocabulary.describe(i): i for i in ids}


def _added(token: str, special: bool) -> dict:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags, "special": special}


def _pairs(tokenizer: dict) -> list[list[str]]:
    """The merges; older files write a pair as one string."""
    merges = tokenizer["model"]["merges"]
    return [pair if isinstance(pair, list) else pair.split(" ") for pair in merges]
