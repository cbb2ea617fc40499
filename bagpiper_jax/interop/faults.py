"""The one fault of imports and exports, and how its messages quote what a file holds."""

import reprlib

from bagpiper_jax.errors import Explained


class InterchangeError(Explained, ValueError):
    """Something that cannot be imported or exported: tensors that are missing, unknown or misshapen, each by name; a
    file that is broken or of another kind; no room. The message names file and entry."""


def shown(value: object) -> str:
    """What a file holds, as a message may quote it: on one line and cut."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200:
        return value
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
