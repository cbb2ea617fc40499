"""What listeners say of a set of generated clips: Fréchet distance, divergences, inception score."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.audio import AudioError
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Score, Tools
from bagpiper_jax.evaluation.evaluators.listening import Heard, Listener
from bagpiper_jax.evaluation.metrics import divergence, frechet, inception

LISTENERS = ("vggish", "panns", "passt", "openl3", "yamnet")
"""Those that publications name, and one that is always at hand."""

_FAD = ("vggish", "yamnet")
"""The listeners of windows of a second, whose distance is called FAD; that of others is FD."""


def scores(tools: Tools, pairs: Mapping[str, tuple[Path | None, Path | None]], note: str) -> list[Score]:
    """All scores of every listener; one that is not here has a score without a value, which says what is missing.

    Args:
        pairs: item id → its reference clip and what was generated, each None where there is none.
        note: which items these are, in words.
    """
    found = []
    for name in LISTENERS:
        try:
            listener = tools.evaluator(name)
        except MissingEvaluatorError as error:
            found.append(Score(_distance(name), None, "", 0, len(pairs), note=str(error)))
        else:
            found += _of(listener, pairs, note)
    return found


def hearing(listener: Listener) -> Callable[[Path | None], Heard | None]:
    """What the listener hears of a file, once for each; None of a file that is not there or cannot be used."""

    @functools.cache
    def hear(path: Path | None) -> Heard | None:
        try:
            return None if path is None else listener.hear(path)
        except AudioError:
            return None

    return hear


def _of(listener: Listener, pairs: Mapping[str, tuple[Path | None, Path | None]], note: str) -> list[Score]:
    hear, expected = hearing(listener), len(pairs)
    references = [
        heard for path in dict.fromkeys(reference for reference, _ in pairs.values()) if (heard := hear(path))
    ]
    generated = {id: heard for id, (_, path) in pairs.items() if (heard := hear(path))}
    value, why = _frechet(references, list(generated.values()))
    found = [Score(_distance(listener.name), value, "", len(generated), expected, note=why or note)]
    if not listener.labels:
        return found
    names = [f"kl_{listener.name}_{way}" for way in ("reference_generated", "generated_reference")]
    logits = {id: heard.clip_logits for id, heard in generated.items()}
    truth = {id: heard.clip_logits for id, (path, _) in pairs.items() if (heard := hear(path))}
    both = len(truth.keys() & logits.keys())
    if both:
        sides = divergence.paired(truth, logits)
        ways = [divergence.divergences(*order).mean() for order in (sides, sides[::-1])]
    for number, name in enumerate(names):
        value, why = (float(ways[number]), "") if both else (None, "no clip has a reference")
        found.append(Score(name, value, "nats", both, expected, note=why))
    return [*found, _inception(listener.name, list(logits.values()), expected)]


def _frechet(references: Sequence[Heard], generated: Sequence[Heard]) -> tuple[float | None, str]:
    """The distance, or why there is none."""
    if not references:
        return None, "there are no reference clips"
    if not generated:
        return None, "no clip was generated"
    try:
        sides = (np.concatenate([heard.embeddings for heard in side]) for side in (references, generated))
        return frechet.frechet_distance(*sides), ""
    except frechet.TooFewWindows as error:
        return None, str(error)


def _inception(listener: str, logits: Sequence[np.ndarray], expected: int) -> Score:
    mean, deviation = inception.inception_score(np.array(logits)) if logits else (math.nan, math.nan)
    note = f"standard deviation over ten parts {deviation:.3f}; small sets come out low"
    if math.isnan(mean):
        mean, note = None, f"needs {inception.SPLITS} clips or more, there are {len(logits)}"
    return Score(f"is_{listener}", mean, "", len(logits), expected, note=note)


def _distance(listener: str) -> str:
    return ("fad_" if listener in _FAD else "fd_") + listener
