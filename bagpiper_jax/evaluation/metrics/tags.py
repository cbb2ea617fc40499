"""Whether a tagger hears the same in a generated clip as in its reference, as a share, 0 to 1."""

import numpy as np
from jaxtyping import Float

TOP = 5


def strongest(logits: Float[np.ndarray, " classes"], top: int = TOP) -> list[int]:
    """The classes that are heard best, the strongest first."""
    return np.argsort(-np.asarray(logits), kind="stable")[:top].tolist()


def agreement(
    reference: Float[np.ndarray, " classes"], generated: Float[np.ndarray, " classes"], top: int = TOP
) -> float:
    """The share of the reference's strongest classes that are among the generated clip's strongest as well."""
    truth = {*strongest(reference, top)}
    return len(truth & {*strongest(generated, top)}) / len(truth)
