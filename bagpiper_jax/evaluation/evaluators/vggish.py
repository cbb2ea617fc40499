"""VGGish: 128 numbers for every 0.96 s, the embedding of the Fréchet audio distance.

The weights are those of torchvggish (`vggish-10086976.pth`, Apache-2.0), by path. As in the scripts that publish FAD,
the embedding is what comes before the last ReLU, without PCA.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.evaluators.listening import RATE, Heard, patches

_CONVOLUTIONS = {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256), 11: (256, 512), 13: (512, 512)}
"""Place in `features` → channels in and out."""
_POOLED = (0, 3, 8, 13)
_LINEAR = {0: (12_288, 4_096), 2: (4_096, 4_096), 4: (4_096, 128)}
_OFFSET = 0.01
_BATCH = 16
"""Patches that are computed together, so that clips of all lengths share a compiled program."""

LAYOUT = {
    **{f"features.{place}.weight": (out, into, 3, 3) for place, (into, out) in _CONVOLUTIONS.items()},
    **{f"features.{place}.bias": (out,) for place, (_, out) in _CONVOLUTIONS.items()},
    **{f"embeddings.{place}.weight": (out, into) for place, (into, out) in _LINEAR.items()},
    **{f"embeddings.{place}.bias": (out,) for place, (_, out) in _LINEAR.items()},
}
"""Name → shape in torch's layout."""


class Vggish:
    """A `Listener` that names no classes."""

    name, labels = "vggish", ()

    def __init__(self, path: str):
        self._parameters = jax.device_put(weights.checkpoint(path, self.name, LAYOUT))
        self.version = weights.version(Path(path))

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        return Heard(self.embed(patches(sound.read(path, RATE), _OFFSET)))

    def embed(self, each: Float32[np.ndarray, "patches 96 64"]) -> Float32[np.ndarray, "patches 128"]:
        """The embeddings of log-mel patches."""
        padded = np.pad(each, ((0, -len(each) % _BATCH), (0, 0), (0, 0)))
        parts = [_embed(self._parameters, padded[i : i + _BATCH]) for i in range(0, len(padded), _BATCH)]
        return np.concatenate(parts)[: len(each)]


def open_vggish(path: str = "") -> Vggish:
    """See `open_evaluator`. A path is a file, .pth or .safetensors."""
    return Vggish(path)


@jax.jit
def _embed(p: dict[str, Array], x: Float[Array, "patches 96 64"]) -> Float[Array, "patches 128"]:
    x = x[..., None]
    for place in _CONVOLUTIONS:
        x = jax.lax.conv_general_dilated(
            x, p[f"features.{place}.weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC")
        )
        x = jax.nn.relu(x + p[f"features.{place}.bias"])
        if place in _POOLED:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(len(x), -1)
    for place in _LINEAR:
        x = jax.nn.relu(x) @ p[f"embeddings.{place}.weight"].T + p[f"embeddings.{place}.bias"]
    return x
