"""Steps that cannot be trusted change nothing: decided inside the compiled step, counted, and reported.

A step whose loss or gradient is not finite, or whose gradient norm is far above what is usual, keeps parameters and
moments as they were. Only counters move on, so that the learning rate stays a function of the step.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """When a step is skipped, and when the run stops for it.

    Attributes:
        spike: a gradient norm above this many times its running mean is skipped; 0 skips only what is not finite.
        memory: accepted steps in that mean; before there are as many, no norm is called a spike.
        patience: skipped steps in a row that end the run.
    """

    spike: float = 20.0
    memory: int = 100
    patience: int = 10

    def __post_init__(self):
        if self.memory < 1 or self.patience < 1 or (self.spike and self.spike <= 1):
            raise ValueError(f"memory and patience must be at least 1, spike above 1 or 0: {self}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guard:
    """What the step remembers of earlier ones; part of the train state and of checkpoints.

    Attributes:
        norm: float32 [], mean gradient norm of accepted steps.
        accepted, skipped, in_a_row: int32 [], steps; the last counts the skipped ones since the last accepted.
        corrupt: int32 [], examples of all steps that stood empty because their record is damaged.
    """

    norm: Float[Array, ""]
    accepted: Int[Array, ""]
    skipped: Int[Array, ""]
    in_a_row: Int[Array, ""]
    corrupt: Int[Array, ""]

    @classmethod
    def new(cls) -> "Guard":
        return cls(jnp.float32(0), *(jnp.int32(0) for _ in range(4)))


def judge(
    guard: Guard, config: GuardConfig, loss: Float[Array, ""], norm: Float[Array, ""]
) -> tuple[Bool[Array, ""], Guard]:
    """Whether a step of this loss and gradient norm counts, and what to remember of it."""
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    if config.spike:
        good &= (guard.accepted < config.memory) | (norm <= config.spike * guard.norm)
    accepted = guard.accepted + good
    weight = 1 / jnp.clip(accepted, 1, config.memory)
    mean = jnp.where(good, guard.norm + (norm - guard.norm) * weight, guard.norm)
    in_a_row = jnp.where(good, 0, guard.in_a_row + 1)
    return good, Guard(mean, accepted, guard.skipped + ~good, in_a_row, guard.corrupt)


def keep_unless(good: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """`new` where `good`, else `old`; whole numbers, which are counters, are always `new`."""

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(good, x, y) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(choose, new, old)
