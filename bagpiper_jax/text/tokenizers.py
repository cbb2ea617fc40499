"""Text tokenizers: bytes (needs no file), any `tokenizer.json` (how Qwen's comes too), and learning a small BPE."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bagpiper_jax.text import hub
from bagpiper_jax.text.faults import TokenizerError
from bagpiper_jax.text.pieces import PieceEncoder, cuts_at_spaces

THINK_TOKENS = ("<think>", "</think>")
"""Kept whole by a learned BPE, since every reasoning text carries them (reference section 1.4)."""


class TextTokenizer(Protocol):
    """What the data path needs from a tokenizer.

    Attributes:
        size: ids are in [0, size).
        fingerprint: equal for two tokenizers exactly if they give equal ids.
    """

    size: int
    fingerprint: str

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class ByteTokenizer:
    """UTF-8 bytes as ids."""

    size = 256
    fingerprint = "byte"

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(int(i) for i in ids if 0 <= i < 256).decode("utf-8", errors="replace")


@dataclasses.dataclass(frozen=True)
class JsonTokenizer:
    """A tokenizer of the `tokenizers` library, read from its `tokenizer.json`; Qwen3's is one."""

    path: str

    @functools.cached_property
    def content(self) -> str:
        """JSON of the text tokenizer; ids of the whole model, as vLLM directories have them, are shifted back."""
        path = Path(self.path)
        content = path.read_text(encoding="utf-8")
        if not hub.is_shifted(content):
            return content
        config = path.with_name(hub.CONFIG)
        declared = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        return json.dumps(hub.restore(json.loads(content), declared), ensure_ascii=False)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{self.path} is not a readable tokenizer.json: {error}") from error

    @functools.cached_property
    def size(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the parsed JSON, so that reformatting the file changes nothing."""
        canonical = json.dumps(json.loads(self.content), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        return self._encode(text)

    @functools.cached_property
    def _encode(self) -> Callable[[str], list[int]]:
        _ = self._tokenizer  # a broken file is named
        return PieceEncoder(self._encode_whole) if cuts_at_spaces(self.content) else self._encode_whole

    def _encode_whole(self, text: str) -> list[int]:
        # Without offsets, which cost a third; the batch is of one, since threads would fight the workers around it.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return encoding.ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def load_tokenizer(spec: str) -> TextTokenizer:
    """Opens a tokenizer: "byte", a `tokenizer.json`, or a directory that holds one.

    Raises:
        TokenizerError: the file does not exist or cannot be read.
    """
    if spec == "byte":
        return ByteTokenizer()
    path = Path(spec) / "tokenizer.json" if os.path.isdir(spec) else Path(spec)
    if not path.is_file():
        raise TokenizerError(
            f"tokenizer {spec!r} not found; give 'byte', a tokenizer.json, or learn one with text.learn_bpe"
        )
    tokenizer = JsonTokenizer(str(path))
    _ = tokenizer.size  # a broken file fails here, not in the middle of a run
    return tokenizer


def learn_bpe(texts: Iterable[str], size: int, path: str | os.PathLike) -> JsonTokenizer:
    """Learns a byte-level BPE of at most `size` ids from `texts` and writes it to `path`.

    Any string encodes and decodes to itself. Texts are sorted first, so the result does not depend on their order.

    Raises:
        TokenizerError: there is no text, or `size` is below the 256 bytes and the think tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = sorted(set(texts))
    smallest = 256 + len(THINK_TOKENS)
    if not texts or size < smallest:
        raise TokenizerError(f"learning a BPE needs some text and a size of at least {smallest}, got {size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Special to the trainer, which then gives them ids, not to the reader: decoding keeps them.
    think = [AddedToken(token, special=False, normalized=False) for token in THINK_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=think,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.tmp"
    tokenizer.save(temporary)
    os.replace(temporary, path)
    return JsonTokenizer(str(path))
