"""The key of an endpoint: sent in one header, and kept out of everything that is stored or told."""

import html
import json
import re
import urllib.parse
from collections.abc import Mapping

from bagpiper_jax.curation.endpoint.failures import EndpointError

_SECRET = 8
"""Characters from which a key is secret. Shorter ones are dummies of local servers, and parts of ordinary words."""


class ApiKey:
    """The key that an environment variable holds, if any."""

    def __init__(self, variable: str, environment: Mapping[str, str]):
        """Reads it. Raises EndpointError: it holds what no HTTP header can carry."""
        key = environment.get(variable, "").strip() if variable else ""
        if not key.isascii() or not key.isprintable():
            raise EndpointError(
                f"the environment variable {variable} holds a line break or a letter that no HTTP header can carry; "
                "put the key alone into it"
            )
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pattern = _pattern(key) if key else None

    def redact(self, text: str) -> str:
        """An error's text with "…" in place of the key, which endpoints quote; not for the content of answers.

        A key too short to be secret is taken out where it stands alone, not out of words.
        """
        return self._pattern.sub("…", text) if self._pattern else text


def _pattern(key: str) -> re.Pattern:
    forms = {key, json.dumps(key)[1:-1], urllib.parse.quote(key, safe=""), html.escape(key)}
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(either if len(key) >= _SECRET else rf"(?<!\w)(?:{either})(?!\w)")
