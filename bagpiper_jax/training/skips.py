"""What a person is told of skipped steps: the numbers and the examples of each, and the end if there are too many."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from bagpiper_jax.runs.faults import TrainingError
from bagpiper_jax.runs.guard import GuardConfig
from bagpiper_jax.training.step import StepMetrics

_log = logging.getLogger(__name__)

FILE = "skipped.jsonl"


class SkipReport:
    """Notes skipped steps in `skipped.jsonl`, with the examples of their batch, and ends a run that has too many.

    Args:
        directory: the directory of the run.
        config: the configuration of the guard.
        contents: batch index → names of the examples, per row.
        active: whether this process writes.
    """

    def __init__(
        self, directory: Path, config: GuardConfig, contents: Callable[[int], list], active: bool = True
    ):
        self._path, self._config, self._contents, self._active = directory / FILE, config, contents, active

    def __call__(self, step: int, metrics: StepMetrics) -> None:
        """Reads one number of a step; raises TrainingError if it was one too many in a row to be skipped."""
        in_a_row = int(metrics.guard.in_a_row)
        if not in_a_row:
            return
        found = {
            "loss": float(metrics.sums.total / metrics.sums.frames),
            "gradient_norm": float(metrics.gradient_norm),
            "mean_norm": float(metrics.guard.norm),
        }
        shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        _log.warning("step %d changed nothing: %s; its examples are listed in %s", step, shown, self._path)
        if self._active:
            line = {"step": step, "batch": step - 1, **_json(found), "rows": self._contents(step - 1)}
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if in_a_row >= self._config.patience:
            raise TrainingError(
                f"{in_a_row} steps in a row were skipped, the last one is step {step} ({shown}). Their examples are "
                f"listed in {self._path}; look at them with inspect_data, or lower OptimizerConfig.peak_rate, then "
                "run again to continue from the last checkpoint"
            )


def _json(found: dict[str, float]) -> dict[str, float | str]:
    """JSON has no word for nan and infinity."""
    return {k: x if x - x == 0 else str(x) for k, x in found.items()}
