"""When failures of single requests show a fault that all requests share, and what to do about each."""

import re

from bagpiper_jax.curation.endpoint.failures import Declined, EndpointError, Failure, message_of

_PATIENCE = 16
"""Requests given up in a row, whatever became of each, after which the endpoint counts as useless."""
_ALIKE = 8
"""Equal refusals in a row after which every request counts as refused."""
_KEPT = "what was answered is kept"

_NEVER = {
    "status_401": (
        "the key is not accepted",
        "put a key that it accepts into the environment variable that Endpoint.key_variable names",
    ),
    "status_403": ("the key may not do this", "use a key that may, or another model"),
    "status_404": (
        "no such path or model",
        "check Endpoint.url, which ends where /chat/completions begins, and Endpoint.model",
    ),
}
"""Failures that no other request can escape: what they say, and the remedy."""

_CREDIT = "add credit to the account that the key belongs to"
_MOVED = "set Endpoint.url to the address that answers, up to and including /v1; redirects are not followed"
_NO_SUCH_CALL = "check that chat/completions is served at Endpoint.url"
_OTHER_NAME = (
    "newer OpenAI models take max_completion_tokens, others max_tokens: set Endpoint.max_tokens_name"
)
_NOT_TAKEN = (
    "see the endpoint's message for what it does not take, and change model, prompts or sampling settings"
)
_REMEDIES = {
    **dict.fromkeys(("status_402", "status_429"), _CREDIT),
    **dict.fromkeys((f"status_{number}" for number in (300, 301, 302, 303, 307, 308)), _MOVED),
    **dict.fromkeys(("status_405", "status_410", "status_501"), _NO_SUCH_CALL),
    "status_413": "send less: lower CaptionConfig.max_seconds, or raise the endpoint's limit on the size of a request",
    "only_reasoning": "raise its max_tokens, or turn the model's reasoning off",
}
_OTHER_NAME_WANTED = re.compile(
    r"max_completion_tokens|max_tokens.*\b(?:not|un\w+|extra)\b|\b(?:not|un\w+|extra)\b.*max_tokens", re.I
)


def remedy_of(failed: Failure) -> str:
    """What to do about a request that was given up."""
    if failed.again:
        return f"run the same command again: {_KEPT}"
    if isinstance(failed, Declined):
        return _REMEDIES.get(failed.reason, "leave the clip out, or ask another model")
    if _OTHER_NAME_WANTED.search(message_of(failed.detail)[:1000]):
        return _OTHER_NAME
    return _REMEDIES.get(failed.reason, _NOT_TAKEN)


class Patience:
    """Tells from the requests given up in a row when they show a fault that all requests share."""

    def __init__(self, url: str):
        self._url = url
        self._given_up: list[tuple[str, str]] = []

    def answered(self) -> None:
        """A request succeeded, so what failed before it failed by itself."""
        self._given_up.clear()

    def fault_at_once(self, failed: Failure) -> EndpointError | None:
        """The fault if one such failure is enough to know that no request can succeed."""
        if failed.reason not in _NEVER:
            return None
        meaning, remedy = _NEVER[failed.reason]
        return EndpointError(f"{self._url}: {meaning}: {failed}; {remedy}; {_KEPT}")

    def fault_after(self, failed: Failure) -> EndpointError | None:
        """Counts a request that was given up; the fault if it was one too many."""
        self._given_up.append(("", "") if failed.again else (failed.reason, _without_ids(failed)))
        count, last = len(self._given_up), self._given_up[-_ALIKE:]
        # Too large a request is that request's own fault, told of each in the same words.
        alike = not failed.again and failed.reason != "status_413" and count >= _ALIKE and len(set(last)) == 1
        if not alike and count < _PATIENCE:
            return None
        if failed.again:
            return EndpointError(
                f"{self._url} is down: {count} requests in a row failed, the last with {failed}; "
                f"run the same command again when it is up, {_KEPT}"
            )
        return EndpointError(
            f"{self._url} refuses what is asked: {count} requests in a row failed, the last with {failed}; "
            f"{remedy_of(failed)}; {_KEPT}"
        )


def _without_ids(failed: Failure) -> str:
    """The message without ids, times and hashes: servers write them into refusals that are otherwise equal."""
    words = re.compile(r"[\w-]{8,}")
    message = message_of(failed.detail)[:1000]
    return words.sub(lambda word: "#" if any(map(str.isdigit, word[0])) else word[0], message)
