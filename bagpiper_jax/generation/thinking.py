"""Reasoning, which a reply writes between `<think>` and `</think>`, told from the text besides."""

import dataclasses
from collections.abc import Iterator

OPEN, CLOSE = "<think>", "</think>"


@dataclasses.dataclass(frozen=True)
class Reasoning:
    """More of what stands between `<think>` and `</think>`."""

    text: str


@dataclasses.dataclass(frozen=True)
class Content:
    """More of the text besides."""

    text: str


def parted(text: str) -> tuple[str, str]:
    """The reasoning and the content of a whole text."""
    splitter = ThinkSplitter()
    pieces = [*splitter.add(text), *splitter.end()]
    reasoning, content = (
        "".join(piece.text for piece in pieces if isinstance(piece, kind)) for kind in (Reasoning, Content)
    )
    return reasoning, content


class ThinkSplitter:
    """Text in pieces → reasoning and content, without the tags and the line breaks beside them."""

    def __init__(self):
        self._held, self._thinks, self._trims = "", False, False

    def add(self, text: str) -> Iterator[Reasoning | Content]:
        self._held += text
        while True:
            tag = CLOSE if self._thinks else OPEN
            before, found, behind = self._held.partition(tag)
            if not found:
                break
            yield from self._out(before.rstrip("\n") if self._thinks else before)
            self._held, self._thinks, self._trims = behind, not self._thinks, True
        # What may be the beginning of a tag, or line breaks before one, waits for more.
        keep = len(self._held) - len(self._held.rstrip("\n")) if self._thinks else 0
        keep = max([keep, *(n for n in range(1, len(tag)) if self._held.endswith(tag[:n]))])
        if self._thinks and keep:
            keep += _breaks(self._held[: len(self._held) - keep])
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        yield from self._out(ready)

    def end(self) -> Iterator[Reasoning | Content]:
        held, self._held = self._held, ""
        yield from self._out(held)

    def _out(self, text: str) -> Iterator[Reasoning | Content]:
        if self._trims:
            text = text.lstrip("\n")
        if text:
            self._trims = False
            yield Reasoning(text) if self._thinks else Content(text)


def _breaks(text: str) -> int:
    """Line breaks at the end of a text."""
    return len(text) - len(text.rstrip("\n"))
