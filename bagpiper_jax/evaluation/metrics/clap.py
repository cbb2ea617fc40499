"""CLAP score: cosine between the embedding of a caption and that of the audio, −1 to 1.

The number belongs to its checkpoint, and laion_clap cuts clips of more than ten seconds at random: compare only what
one checkpoint gave of clips cut alike.
"""

import numpy as np
from jaxtyping import Float

_LEAST_NORM = 1e-8


def cosines(
    text: Float[np.ndarray, "pairs D"], audio: Float[np.ndarray, "pairs D"]
) -> Float[np.ndarray, " pairs"]:
    """The cosine of every pair of rows; 0 where a row is zero, as in torch's cosine_similarity."""
    text, audio = np.asarray(text, np.float64), np.asarray(audio, np.float64)
    norms = [np.maximum(np.linalg.norm(side, axis=-1), _LEAST_NORM) for side in (text, audio)]
    return (text * audio).sum(-1) / (norms[0] * norms[1])
