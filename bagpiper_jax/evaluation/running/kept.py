"""What evaluators said of files, kept so that none hears a file twice.

A line is a call. Its key has the evaluator's name and version, the source of its class, its method, and what it was
given: of files their content. What a benchmark makes of an answer is not kept, so that its rules may change.
"""

import base64
import hashlib
import inspect
import json
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bagpiper_jax.evaluation.evaluators.listening import Heard
from bagpiper_jax.evaluation.running.cache import content_of
from bagpiper_jax.journal import Results

METHODS = ("transcribe", "hear", "voice", "opinions", "match", "caption")
"""Of evaluators, whose answers are kept; all else that an evaluator has is its own."""

_FORM = 1
"""Of the keys and of the answers."""


class KeptAnswers:
    """Answers by key, in a journal. Safe to call from several threads; memory holds keys alone."""

    def __init__(self, path: Path):
        """Opens or creates it. Raises JournalError: another process writes it."""
        self._results, self._lock = Results(path), threading.Lock()

    def answer(self, key: str, make: Callable[[], Any]) -> Any:
        """The kept answer, or a new one. Raises JournalError: it cannot be written; what `make` raises."""
        with self._lock:
            kept = self._results.get(key)
        if kept is not None:
            return _unpacked(kept)
        made = make()
        if (packed := _packed(made)) is not None:
            with self._lock:
                self._results.add(key, packed)
        return made

    def close(self) -> None:
        """Brings all answers to the disk."""
        try:
            self._results.sync()
        finally:
            self._results.close()


class Remembering:
    """An evaluator whose answers are kept; it has all that the evaluator has."""

    def __init__(self, evaluator: Any, answers: KeptAnswers):
        self._evaluator, self._answers = evaluator, answers
        name = str(getattr(evaluator, "name", ""))
        self._identity = (_FORM, name, str(evaluator.version), _source(type(evaluator)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._evaluator, name)
        if name not in METHODS:
            return found

        def remembering(*given: Any) -> Any:
            said = [_content(each) for each in given]
            if None in said:  # a file that cannot be read: the evaluator says why
                return found(*given)
            text = json.dumps([*self._identity, name, *said])
            key = hashlib.sha256(text.encode()).hexdigest()[:32]
            return self._answers.answer(key, lambda: found(*given))

        return remembering


def remembering(evaluator: Any, answers: KeptAnswers) -> Any:
    """The evaluator with its answers kept; one without a version as it is, since nothing tells when it changes."""
    return Remembering(evaluator, answers) if getattr(evaluator, "version", "") else evaluator


def _content(given: Any) -> Any:
    """What an argument is, as JSON: of a file the digest of its content, None where it cannot be read."""
    if not isinstance(given, Path):
        return given
    content = content_of(given)
    return {"file": content} if content else None


def _source(kind: type) -> str:
    """The digest of the source of a class; "" where it has none."""
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


def _packed(value: Any) -> dict[str, Any] | None:
    """An answer as JSON; None of one in no form that is known here, which is not kept."""
    if isinstance(value, Heard):
        return {"embeddings": _packed_array(value.embeddings), "logits": _packed_array(value.logits)}
    if isinstance(value, np.ndarray):
        return {"array": _packed_array(value)}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return None
    return {"plain": value}


def _unpacked(packed: dict[str, Any]) -> Any:
    if "embeddings" in packed:
        return Heard(_unpacked_array(packed["embeddings"]), _unpacked_array(packed["logits"]))
    return _unpacked_array(packed["array"]) if "array" in packed else packed["plain"]


def _packed_array(array: np.ndarray | None) -> list | None:
    """[data type, shape, compressed bytes in base64]."""
    if array is None:
        return None
    small = zlib.compress(np.ascontiguousarray(array).tobytes(), 1)
    return [array.dtype.str, list(array.shape), base64.b64encode(small).decode()]


def _unpacked_array(packed: list | None) -> np.ndarray | None:
    if packed is None:
        return None
    kind, shape, small = packed
    return np.frombuffer(zlib.decompress(base64.b64decode(small)), kind).reshape(shape)
