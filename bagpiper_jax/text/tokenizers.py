"""Text tokenizers: bytes (needs no file), any `tokenizer.json` (how Qwen's comes too), and learning a small BPE."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bagpiper_jax import files, strict
from bagpiper_jax.text import fidelity, hub
from bagpiper_jax.text.faults import TokenizerError
from bagpiper_jax.text.pieces import PieceEncoder, cuts_at_spaces

logger = logging.getLogger(__name__)

THINK_TOKENS = ("<think>", "</think>")
"""Kept whole by a learned BPE, since every reasoning text carries them (docs/reference.md, Tuning dialogues)."""


class TextTokenizer(Protocol):
    """What the data path needs from a tokenizer.

    Attributes:
        size: ids are in [0, size).
        fingerprint: equal for two tokenizers exactly if they give equal ids.
    """

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

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
        """JSON of the text tokenizer, without settings that would cut or fill texts.

        Ids of the whole model, as vLLM directories have them, are shifted back.

        Raises:
            TokenizerError: the file cannot be read, or is no JSON that means one thing.
        """
        try:
            content = Path(self.path).read_text(encoding="utf-8")
            parsed = strict.loads(content)
            text_only = self._text_only(parsed) if hub.is_shifted(content) else parsed
            usable, settings = fidelity.without_settings(text_only)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._fault("is not a readable tokenizer.json", error) from error
        for setting in settings:
            _say_once(
                logging.INFO, f"{self.path} was saved with {setting}, which is not applied: texts stay whole"
            )
        return content if usable is parsed else json.dumps(usable, ensure_ascii=False)

    def _text_only(self, parsed: Any) -> Any:
        config = Path(self.path).with_name(hub.CONFIG)
        declared = strict.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        return hub.restore(parsed, declared)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(self.content)
        except TokenizerError:
            raise
        except BaseException as error:
            raise self._fault("is not a readable tokenizer.json", error) from error

    def _fault(self, what: str, error: BaseException) -> TokenizerError:
        """The library raises bare Exception, and where its Rust panics a BaseException. Raises what is none of its."""
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise error
        return TokenizerError(f"{self.path} {what}: {type(error).__name__}: {str(error)[:300]}")

    @property
    def size(self) -> int:
        return self._size_and_names[0]

    @functools.cached_property
    def _size_and_names(self) -> tuple[int, list[str]]:
        """The size, and the tokens that bear names of ours, of a vocabulary that is asked for once and not kept."""
        found = self._tokenizer.get_vocab(with_added_tokens=True)
        if not found:
            raise TokenizerError(f"{self.path} is not a readable tokenizer.json: it has no token")
        return max(found.values()) + 1, fidelity.names_of_ours(found)

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
        try:
            (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        except BaseException as error:
            raise self._fault(f"cannot encode {text[:40]!r}", error) from error
        return encoding.ids

    def decode(self, ids: Sequence[int]) -> str:
        try:
            return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)
        except BaseException as error:
            raise self._fault("cannot decode what it encoded", error) from error

    def warn(self) -> None:
        """Logs, once for each file, what the tokenizer loses of texts, and which of its tokens bear names of ours."""
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        if losses := fidelity.losses(self._encode_whole, self.decode, added):
            _say_once(
                logging.WARNING,
                f"{self.path} changes texts, and so all that is cached and learned with it: {'; '.join(losses)}",
            )
        if names := self._size_and_names[1]:
            _say_once(
                logging.WARNING,
                f"{self.path} has tokens with names of the model's own, {', '.join(names[:5])}: the model cannot be "
                "exported with it",
            )


@functools.lru_cache(maxsize=1024)
def _say_once(level: int, message: str) -> None:
    logger.log(level, message)


def load_tokenizer(spec: str) -> TextTokenizer:
    """Opens a tokenizer: "byte", a `tokenizer.json`, or a directory that holds one.

    Settings that were saved in the file and would cut, fill or randomly split texts are not applied, which the log
    says; it warns of a tokenizer that does not give texts back as they were.

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
    tokenizer.warn()
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
    # The trainer reserves ids for these two. They are not marked as special, because decoding may skip special tokens.
    think = [AddedToken(token, special=False, normalized=False) for token in THINK_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=think,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, tokenizer.to_str(pretty=True))
    return JsonTokenizer(str(path))
