"""What a model's answer says: its text without reasoning and marks, or the JSON object in it."""

import json
from collections.abc import Iterator

from bagpiper_jax import strict
from bagpiper_jax.captions.markup import markup_in, without_end_marks, without_reasoning
from bagpiper_jax.curation.endpoint.client import Answer
from bagpiper_jax.outcomes import RecordError


def read_text(answer: Answer, stage: str) -> str:
    """The text of an answer, without the model's reasoning before it and the marks that end it.

    Raises:
        RecordError: `cut_<stage>`: the length limit ended it. `empty_<stage>`: it is reasoning alone.
            `unprintable_<stage>`, `markup_<stage>`: it holds what no tokenizer should see.
    """
    if not answer.finished:
        raise RecordError(f"cut_{stage}", f"…{answer.text[-80:]!r}", "raise its max_tokens")
    text = without_end_marks(without_reasoning(answer.text)).strip()
    if not text and answer.text.strip():
        raise RecordError(f"empty_{stage}", f"nothing but reasoning: {answer.text[:80]!r}", _REMEDY)
    _require_plain(text, stage)
    return text


def read_object(answer: Answer, stage: str) -> dict:
    """The first JSON object in an answer, whatever stands around it.

    Raises:
        RecordError: `unreadable_<stage>`: there is none. Else as `read_text`, of the strings in it too.
    """
    text = read_text(answer, stage)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError) as error:
        raise unreadable(stage, f"{error}: {text[:200]!r}") from error
    for string in _strings(value):  # escapes may have hidden what the text did not show
        _require_plain(string, stage)
    return value


def unreadable(stage: str, detail: str) -> RecordError:
    """The rejection of an answer that is not what was asked for."""
    return RecordError(f"unreadable_{stage}", detail, "ask another model, or change the prompt")


def _require_plain(text: str, stage: str) -> None:
    if character := strict.unusable(text):
        raise RecordError(f"unprintable_{stage}", f"{character} in {text[:80]!r}", "ask another model")
    if mark := markup_in(text):
        raise RecordError(f"markup_{stage}", f"{mark!r} in {text[:80]!r}", _REMEDY)


def _strings(value: object) -> Iterator[str]:
    """All strings in a JSON value, names of fields among them."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


_REMEDY = "turn the model's reasoning off or serve it with the parser of its family, or ask another model"
