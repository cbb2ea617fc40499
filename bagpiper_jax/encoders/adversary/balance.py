"""Gradients at the waveform, balanced: each has a set share of the norm of the spectral losses' own.

Losses of discriminators have no natural scale, and theirs changes as they learn. EnCodec (Défossez et al., 2022)
therefore sets the share of every gradient. Here that of the spectral losses stays what it is, so that nothing jumps
where the adversary begins.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Gradient = Float[Array, "B T"]
_TINY = 1e-12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RunningNorms:
    """Running means of the norms of gradients.

    Attributes:
        sums: by the loss's name, the decayed sum over steps of the norm of a clip's gradient.
        weight: what the same sum would be of ones.
    """

    sums: dict[str, Array]
    weight: Array

    @classmethod
    def of(cls, *names: str) -> "RunningNorms":
        """None seen yet."""
        return cls({name: jnp.zeros(()) for name in names}, jnp.zeros(()))

    def after(self, gradients: Mapping[str, Gradient], decay: float) -> "RunningNorms":
        """With those of another step."""
        norms = {name: jnp.linalg.norm(each, axis=1).mean() for name, each in gradients.items()}
        sums = {name: decay * self.sums[name] + (1 - decay) * norm for name, norm in norms.items()}
        return RunningNorms(sums, decay * self.weight + (1 - decay))

    def mean(self, name: str) -> Float[Array, ""]:
        """Of a norm; 0 before there is one."""
        return self.sums[name] / jnp.maximum(self.weight, _TINY)


def balanced(
    gradients: Mapping[str, Gradient],
    norms: RunningNorms,
    anchor: str,
    shares: Mapping[str, jax.Array | float],
) -> Gradient:
    """The sum of gradients: the anchor's as it is, every other one's norm a share of the anchor's."""
    total = gradients[anchor]
    for name, share in shares.items():
        scale = share * norms.mean(anchor) / jnp.maximum(norms.mean(name), _TINY)
        total += scale * gradients[name]
    return total
