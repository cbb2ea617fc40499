"""What a step minimises, one file each. The step takes an objective as a value and knows of it only `Objective`."""

from typing import Protocol

import jax

from bagpiper_jax.batch import Batch
from bagpiper_jax.training.losses import LossSums
from bagpiper_jax.training.partition import Parameters


class Objective(Protocol):
    """The loss of a batch as sums: `total` is minimised per frame of the global batch, `frames` counts them."""

    def __call__(self, parameters: Parameters, batch: Batch, seen: jax.Array | None = None) -> LossSums:
        """A pure function.

        Args:
            parameters: of the whole model, by path, and of its adapter, which `lora.joined` puts in place.
            batch: B rows of T slots.
            seen: int32 [B, T, S], the tokens that the model sees in place of the batch's own.
        """
