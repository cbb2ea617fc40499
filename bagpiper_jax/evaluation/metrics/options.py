"""Which of its choices a reply means, whether it names the letter, the text or both.

Leaderboards of MMAU read replies like this before they score them (Sakshi113/MMAU, issue 23), each model with a script
of its own. This is one rule for all, stricter than the word sets of `choices.py`: one choice is meant, or none.
"""

import dataclasses
import re
from collections.abc import Sequence

_MARKUP = re.compile(r"\*\*|__|`|\\boxed\{|\\text\{|\}")
_LEAD = re.compile(
    r"\b(?:answer|choice|option)\s*(?:(?:would\s+be|is|are)\b\s*:?|:)(?:\s*(?:the\s+)?(?:option|choice)\b)?\s*",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^(?:the\s+)?(?:option|choice|answer)\s+(?=[(\[]?[a-z]\b)", re.IGNORECASE)
_MARKED = re.compile(r"^(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[).:])[.:,]?(?:\s+(.*))?$", re.DOTALL)
_ALONE = re.compile(r"^([A-Za-z])[.,;!]?$")
_BEFORE_TEXT = re.compile(r"^([A-Z])\s+(.+)$", re.DOTALL)
_INSIDE = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s+([A-Z])\b")
# A sharp belongs to its note: "C#" is not "C".
_WORD = re.compile(r"\w+[#♯]?")


@dataclasses.dataclass(frozen=True)
class Option:
    """The choice that a reply means.

    Attributes:
        place: of the choice, from 0; None where the reply names none, or several.
        how: what told: text, letter, letter_and_text, phrase; or no_answer, no_option, letter_against_text.
    """

    place: int | None
    how: str


def option(answer: str, choices: Sequence[str]) -> Option:
    """The one choice that an answer means; of equal choices the first.

    Args:
        answer: a reply without its caption and reasoning.
        choices: the texts of the choices, in the order of their letters.
    """
    text = _MARKUP.sub("", answer).strip()
    if not text:
        return Option(None, "no_answer")
    plain = [_plain(choice) for choice in choices]
    if _plain(text) in plain:
        return Option(plain.index(_plain(text)), "text")
    _, *behind = _LEAD.split(text)
    for passage in (*reversed(behind), text):
        if (found := _said(passage, plain)).how != "no_option":
            return found
    # Explanations name other choices too: then the first or the last line may say it alone.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ends = [said for line in (lines[0], lines[-1]) if (said := _said(line, plain)).place is not None]
    return ends[0] if len({each.place for each in ends}) == 1 else found


def _said(text: str, plain: list[str]) -> Option:
    """What one passage says: the whole of it is a choice or a letter, or it holds one choice's words."""
    text = _OPTION.sub("", text.strip())
    if not (whole := _plain(text)):
        return Option(None, "no_option")
    if whole in plain:
        return Option(plain.index(whole), "text")
    if (alone := _ALONE.match(text)) and (place := _place(alone[1], plain)) is not None:
        return Option(place, "letter")
    if (marked := _MARKED.match(text)) and (place := _place(marked[1] or marked[2], plain)) is not None:
        return _checked(place, marked[3] or "", plain)
    if (bare := _BEFORE_TEXT.match(text)) and _plain(bare[2]) in plain:
        if (place := _place(bare[1], plain)) is not None:
            return _checked(place, bare[2], plain)
    if (place := _phrase(text, plain)) is not None:
        return Option(place, "phrase")
    inside = {_place(a or b, plain) for a, b in _INSIDE.findall(text)} - {None}
    return Option(inside.pop(), "letter") if len(inside) == 1 else Option(None, "no_option")


def _checked(place: int, text: str, plain: list[str]) -> Option:
    """A letter with what follows it: the text of its choice, that of another, or a remark."""
    said = _plain(text)
    if said and said == plain[place]:
        return Option(plain.index(said), "letter_and_text")
    return Option(None, "letter_against_text") if said in plain else Option(place, "letter")


def _phrase(text: str, plain: list[str]) -> int | None:
    """The one choice whose words stand in the text side by side; longer choices hide those within them."""
    said, spans = _WORD.findall(text.lower()), {}
    for place, choice in enumerate(plain):
        phrase = _WORD.findall(choice)
        for start in range(len(said) - len(phrase) + 1) if phrase else ():
            if said[start : start + len(phrase)] == phrase:
                spans.setdefault((start, start + len(phrase)), place)
    outer = {
        place
        for (start, end), place in spans.items()
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in spans)
    }
    return outer.pop() if len(outer) == 1 else None


def _place(letter: str, plain: list[str]) -> int | None:
    place = ord(letter.upper()) - ord("A")
    return place if place < len(plain) else None


def _plain(text: str) -> str:
    """A text without case, quotes, double blanks and the full stop at its end."""
    return " ".join(text.lower().split()).strip("\"'“”‘’ ").rstrip(".!").strip("\"'“”‘’ ")
