"""The evaluators by name."""

import importlib
from collections.abc import Callable
from typing import Any

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError

_OURS = {
    "whisper": "whisper:open_whisper",
    "dnsmos": "dnsmos:open_dnsmos",
    "dnsmos_personalized": "dnsmos:open_personalized",
    "yamnet": "yamnet:open_yamnet",
    "musicnn": "musicnn:open_musicnn",
    "resemblyzer": "voices.resemblyzer:open_resemblyzer",
    "wavlm_sv": "voices.wavlm:open_wavlm",
    "eres2net": "voices.eres2net:open_eres2net",
    "paraformer": "paraformer:open_paraformer",
    "vggish": "vggish:open_vggish",
    "panns": "panns:open_panns",
    "passt": "passt:open_passt",
    "openl3": "openl3:open_openl3",
    "audiobox": "audiobox:open_audiobox",
    "clap": "clap:open_clap",
    "captioner": "captioner:open_captioner",
    "codec": "codec:open_codec_of",
}
"""Name → "module:function" of this package; the function takes a path, "" for the package that carries the weights."""


_THEIRS: dict[str, Callable[[str], Any]] = {}


def register(name: str, opens: Callable[[str], Any]) -> None:
    """Makes a user's evaluator known, also in the place of one of ours.

    Args:
        opens: makes it of a path; it has `name`, `version` and the methods that the package tells of.
    """
    _THEIRS[name] = opens


def names() -> list[str]:
    """All that can be opened."""
    return sorted({*_OURS, *_THEIRS})


def open_evaluator(name: str, path: str = "") -> Any:
    """The evaluator of that name.

    Args:
        path: the file or directory of its weights; "" looks for an installed package that carries them.

    Raises:
        MissingEvaluatorError: there is none of that name, or its weights or libraries are not here.
    """
    if name in _THEIRS:
        return _THEIRS[name](path)
    if name not in _OURS:
        raise MissingEvaluatorError(f"there is no evaluator {name!r}; there are {', '.join(names())}")
    module, _, function = _OURS[name].partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)(path)
