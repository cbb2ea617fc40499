"""The parts of a reply: what was heard, what was thought, and the answer (docs/reference.md, Tuning dialogues).

A caption-first model writes `Caption of the audio: …`, then `<think>…</think>`, then its answer; others think first,
or answer at once. Scorers that read a whole reply would count words of the caption as words of the answer.
"""

import dataclasses
import re

from bagpiper_jax.corpora import questions
from bagpiper_jax.text import THINK_TOKENS

_LEAD = re.compile(r"\s*(?:audio\s+|rich\s+)?caption(?:\s+of\s+the\s+audio)?\s*:", re.IGNORECASE)
_PARAGRAPHS = re.compile(r"\n\s*\n")


@dataclasses.dataclass(frozen=True)
class ReplyParts:
    """A reply, divided.

    Attributes:
        caption: the caption, with its lead; "" where there is none.
        reasoning: what stands between the thinking marks, without them.
        answer: the rest; "" where the reply ended before it came to one.
    """

    caption: str
    reasoning: str
    answer: str


def reply_parts(reply: str) -> ReplyParts:
    """Divides a reply. Reasoning that never ends has no answer behind it."""
    begin, _ = THINK_TOKENS
    thoughts, answer = questions.split_reply(reply)
    before, begun, thought = thoughts.partition(begin)
    if answer is None and begun:
        return ReplyParts(before.strip(), thought.strip(), "")
    if answer is None:
        return ReplyParts(*_captioned(reply, ""))
    # Where a prompt ends with the opening mark, the reply has the closing one alone.
    caption, thought = (before, thought) if begun else ("", before)
    return ReplyParts(*_captioned(answer, thought.strip(), caption.strip()))


def _captioned(text: str, reasoning: str, caption: str = "") -> tuple[str, str, str]:
    """Caption, reasoning and answer of a text that may begin with a caption: then its last paragraph answers."""
    if not _LEAD.match(text):
        return caption, reasoning, text.strip()
    *described, last = _PARAGRAPHS.split(text.strip())
    if not described:
        return text.strip(), reasoning, ""
    return "\n\n".join(described), reasoning, last.strip()
