"""Kullback-Leibler divergence between what a classifier hears in a reference clip and in the generated one, in nats.

The published scripts differ by direction: audioldm_eval and audiocraft give KL(reference‖generated),
stable-audio-metrics gives KL(generated‖reference). All of them add 1e-6 to the second argument alone, so equal clips
come to about −1e-6 for each class, and not to 0.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

EPS = 1e-6
_WINDOW, _STEP = 10, 5
"""Seconds of PaSST's input, and between two of them in stable-audio-metrics."""
_LEAST_PADDED, _LEAST_KEPT = 1.5, 0.15
"""Seconds: at most this long, stable-audio-metrics leaves a window as it is; audiocraft drops a piece."""


def softmax(logits: Float[np.ndarray, "clips classes"]) -> Float[np.ndarray, "clips classes"]:
    """Distributions over classes, in float64."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logits: Float[np.ndarray, "clips classes"]) -> Float[np.ndarray, "clips classes"]:
    """A probability for each class by itself, in float64."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))


def divergences(
    first: Float[np.ndarray, "clips classes"],
    second: Float[np.ndarray, "clips classes"],
    activation: Callable[[np.ndarray], np.ndarray] = softmax,
) -> Float[np.ndarray, " clips"]:
    """KL(first‖second) of each pair of clips, given their logits.

    Args:
        activation: `softmax`; `sigmoid` gives what audioldm_eval prints as "KL_Sigmoid", which is no divergence of
            distributions.
    """
    p, q = activation(first), activation(second)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(q + EPS)), 0.0)
    return terms.sum(-1)


def paired(
    reference: Mapping[str, np.ndarray], generated: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the clips that both sides have, matched by name, in the order of the names [clips, classes] each."""
    names = sorted(reference.keys() & generated.keys())
    return np.stack([reference[name] for name in names]), np.stack([generated[name] for name in names])


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of audio that PaSST hears at once, in samples.

    Attributes:
        start: where it begins.
        real: how much audio is in it.
        given: how long it is with the zeros behind it.
    """

    start: int
    real: int
    given: int


def windows_of_stable_audio_metrics(samples: int, rate: int) -> list[Window]:
    """Windows of 10 s every 5 s. The last are filled with zeros, unless they have 1.5 s or less."""
    size, step, last = _WINDOW * rate, _STEP * rate, max(_STEP * rate, samples - _STEP * rate)
    found = []
    for start in range(0, last, step):
        real = min(size, samples - start)
        found.append(Window(start, real, size if real > _LEAST_PADDED * rate else real))
    return found


def windows_of_audiocraft(samples: int, rate: int) -> list[Window]:
    """Pieces of 10 s that do not overlap, each a sample of its own; at most 0.15 s at the end are dropped."""
    size = _WINDOW * rate
    pieces = ((start, min(size, samples - start)) for start in range(0, samples, size))
    return [Window(start, real, real) for start, real in pieces if real > _LEAST_KEPT * rate]
