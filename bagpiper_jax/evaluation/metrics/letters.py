"""Letters of choices in replies, as two suites look for them; neither guesses where it finds none.

Sources: `score_foundation.py` of OFA-Sys/AIR-Bench at 98324766; `tasks/mmau/utils.py` of EvolvingLMMs-Lab/lmms-eval,
which draws a random letter where it finds none: here that is None.
"""

_FOUR = "ABCD"
_ENDS = (",", ".", "!", "?", ";", ":", "'")


def air_bench_letter(reply: str) -> str | None:
    """The first character if it is one of A to D, else the last but one; None if that is none either.

    The rule is as blunt as it sounds: "The answer is B." is B, "Cello" is C, and "The answer is A" is none.
    """
    text = reply.strip().replace("\n", "")
    if text in ("", "None"):
        return None
    if text[0] in _FOUR:
        return text[0]
    return text[-2] if len(text) > 1 and text[-2] in _FOUR else None


def lmms_eval_letter(reply: str) -> str | None:
    """The letter of A to D that stands in brackets, else between blanks, else before a full stop.

    Of several it is the last between blanks, or the first of the alphabet where none stands so.
    """
    for character in _ENDS:
        reply = reply.strip(character)
    text = f" {reply} "
    for form in ("({})", " {} ", "{}."):
        found = [letter for letter in _FOUR if form.format(letter) in text]
        if found:
            return max(found, key=lambda letter: text.rfind(f" {letter} "))
    return None
