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
    "resemblyzer": "resemblyzer:open_resemblyzer",
    "vggish": "vggish:open_vggish",
    "panns": "panns:open_panns",
    "clap": "clap:open_clap",
    "captioner": "captioner:open_captioner",
    "codec": "codec:open_codec_of",
}
"""Name → "module:function" of this package; the function takes a path, "" for the package that carries the weights."""

_NOT_READ = {
    "passt": "PaSST's weights (hear21passt)",
    "openl3": "OpenL3's mel256 weights",
    "wavlm_sv": "WavLM-large fine-tuned for speaker verification (wavlm_large_finetune.pth)",
    "eres2net": "ERes2Net's weights (speech_eres2net_sv_en_voxceleb_16k)",
    "audiobox": "the weights of Audiobox Aesthetics (checkpoint.pt)",
    "paraformer": "Paraformer-zh's weights",
}
"""Name → what published scores were made with, and nothing here reads."""


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
    if name in _NOT_READ:
        raise MissingEvaluatorError(
            f"{name} needs {_NOT_READ[name]}, which no package carries and nothing here reads: register an evaluator "
            "of your own under that name (evaluators.register)"
        )
    if name not in _OURS:
        raise MissingEvaluatorError(f"there is no evaluator {name!r}; there are {', '.join(names())}")
    module, _, function = _OURS[name].partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)(path)
