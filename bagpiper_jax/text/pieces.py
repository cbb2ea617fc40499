"""Tokenizing words once: captions repeat theirs, and a BPE of the common kind never merges across a space."""

import json
import re
from collections.abc import Callable

import numpy as np

Encode = Callable[[str], list[int]]

# The regular expression of GPT-2's ByteLevel is the library's; this one, Qwen's, stands in its tokenizer.json.
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Both rules begin a new piece at a space that follows a character other than a blank, and Unicode's composition never
# joins a space to its neighbour. So the ids of a text that is cut there are the ids of its parts.
_CUT = re.compile(r"(?<=\S) ")

_LONGEST, _MOST = 40, 200_000  # characters of a piece that is kept, and pieces: some 50 MB


class PieceEncoder:
    """Ids of texts from the ids of their pieces, which are looked up or else encoded and kept.

    Args:
        encode: the tokenizer's own; `cuts_at_spaces` must hold of it.
    """

    def __init__(self, encode: Encode):
        self._first, self._others = _Kept(encode, ""), _Kept(encode, " ")

    def __call__(self, text: str) -> list[int]:
        first, *others = text.split(" ")
        try:
            found = b"".join((self._first[first], *map(self._others.__getitem__, others)))
        except KeyError:  # more than one blank in a row: the second begins no piece
            first, *others = _CUT.split(text)
            found = b"".join((self._first.encode(first), *map(self._others.encode, others)))
        return np.frombuffer(found, np.int32).tolist()


class _Kept(dict):
    """Word → its ids, int32 as bytes. `before` stands before each word. KeyError: a blank is at its end, or is all."""

    def __init__(self, encode: Encode, before: str):
        self._encode, self._before = encode, before

    def __missing__(self, word: str) -> bytes:
        if not word or word[-1].isspace():
            raise KeyError(word)
        ids = self.encode(word)
        if len(word) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[word] = ids
        return ids

    def encode(self, piece: str) -> bytes:
        """Ids of any piece, kept or not."""
        return self.get(piece) or np.asarray(self._encode(self._before + piece), np.int32).tobytes()


def cuts_at_spaces(content: str) -> bool:
    """Whether a `tokenizer.json` gives the same ids for a text and for its parts, cut before single spaces.

    True of what is known to: byte-level BPE cut by GPT-2's or Qwen's rule, its text taken as it is or normalized to
    NFC, whose added tokens do not look beyond themselves.
    """
    tokenizer = json.loads(content)
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer")
    return (
        (model.get("type") or "merges" in model and "BPE") == "BPE"  # older files do not tell
        and not any(
            model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
        )
        and not (tokenizer.get("truncation") or tokenizer.get("padding"))
        and (normalizer is None or normalizer == {"type": "NFC"})
        and _cuts(tokenizer.get("pre_tokenizer") or {})
        and all(map(_keeps_to_itself, tokenizer.get("added_tokens") or ()))
    )


def _cuts(pre_tokenizer: dict) -> bool:
    *others, last = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        return False
    if last.get("use_regex", True):
        return all(other.get("type") == "Digits" for other in others)
    return len(others) == 1 and _is_qwen(others[0])


def _is_qwen(rule: dict) -> bool:
    return (
        rule.get("type") == "Split"
        and rule.get("pattern") == {"Regex": _QWEN}
        and (rule.get("behavior"), rule.get("invert")) == ("Isolated", False)
    )


def _keeps_to_itself(token: dict) -> bool:
    looks_around = any(token.get(name) for name in ("lstrip", "rstrip", "single_word"))
    return not looks_around and not re.search(r"\s", token["content"])
