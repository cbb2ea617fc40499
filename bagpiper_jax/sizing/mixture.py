"""Whether what a run will read is there, and keeps to the limits of a mixture."""

from pathlib import Path
from typing import Any

from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.inspection.served import ServedMixture
from bagpiper_jax.inspection.validation import validate
from bagpiper_jax.training.config import TrainConfig


def check_mixture(train: TrainConfig) -> dict[str, Any]:
    """The training mixture of a run: its lock, share of every task, and violations.

    `valid` is None where the lock does not exist: a run is often planned before its data is cached.
    """
    found: dict[str, Any] = {"lock": train.train_lock, "valid": None, "shares": {}, "violations": []}
    if not Path(train.train_lock).exists():
        return found
    violations = validate(ServedMixture.of_training(train), train.limits).violations
    found |= {"valid": not violations, "violations": [str(v) for v in violations]}
    return found | {"shares": {} if any(v.rule == "cache" for v in violations) else _shares(train.train_lock)}


def _shares(lock: str) -> dict[str, float]:
    """Rates, which are relative, as shares that sum to one."""
    rates = {task.task: task.rate for task in read_lock(lock).tasks("train")}
    return {name: rate / sum(rates.values()) for name, rate in rates.items()}
