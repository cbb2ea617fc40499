"""What a `tokenizer.json` would do to texts unasked: cut or fill them, draw its ids at random, or lose characters."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from bagpiper_jax.vocabulary import NUM_SPECIALS, Vocabulary

_PROBES = (
    "The dog BARKS, 2 birds sing 10.75 times (quietly)!",
    " a  text\tof several\n\nlines \n",
    "naïve café, Schläge, Żółć, слово, 日本語, عربى",
    "“quotes” – dashes … 😀👩‍👧",
    "before <think>within</think> behind",
)
"""Texts that captions are made of, composed as Unicode's NFC has them."""

_CODEC_NAME = re.compile(r"<codec_layer\d+_(pad|code\d+)>")


def without_settings(content: Any) -> tuple[Any, list[str]]:
    """A parsed tokenizer.json without truncation, padding and dropout, and what of these was in force.

    They belong to the batch or the training for which the file was saved, and would change every text without a word.
    """
    found = []
    if isinstance(content, dict):
        for name in ("truncation", "padding"):
            if content.get(name) is not None:
                found.append(name)
                content = {**content, name: None}
        model = content.get("model")
        if isinstance(model, dict) and model.get("dropout"):
            found.append("dropout")
            content = {**content, "model": {**model, "dropout": None}}
    return content, found


def losses(
    encode: Callable[[str], list[int]], decode: Callable[[Sequence[int]], str], added: Collection[str]
) -> list[str]:
    """Every probe that does not come back from its ids as it was, with what came instead.

    Args:
        encode, decode: the tokenizer's.
        added: tokens that the file adds to those of its model; they may swallow the blanks beside them.
    """
    found = []
    for probe in (*_PROBES, *([f"a {' b '.join(sorted(added)[:100])} c"] if added else [])):
        try:
            back = decode(encode(probe))
        except ValueError as error:
            found.append(f"{probe!r} is refused ({error})")
            continue
        if back != probe:
            found.append(_difference(probe, back))
    return found


def _difference(probe: str, back: str) -> str:
    """The neighbourhood of the first character that differs."""
    same = next(
        (i for i, (a, b) in enumerate(zip(probe, back, strict=False)) if a != b), min(len(probe), len(back))
    )
    begin = max(0, same - 8)
    return f"{probe[begin : same + 16]!r} comes back as {back[begin : same + 16]!r}"


def names_of_ours(tokens: Collection[str]) -> list[str]:
    """Those tokens that bear the name of a special or codec token of the model, under which an export writes those."""
    specials = {Vocabulary().describe(token) for token in range(NUM_SPECIALS)}
    marks = [token for token in tokens if token.startswith("<")]
    return sorted(token for token in marks if token in specials or _CODEC_NAME.fullmatch(token))
