"""Numbers at Weights & Biases: `pip install wandb`. The key is asked of the environment alone: WANDB_API_KEY.

WANDB_MODE=offline writes files to `<output>/wandb`, for `wandb sync` later.
"""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from bagpiper_jax.runs.trackers import kept
from bagpiper_jax.runs.trackers.protocol import TrackedRun, TrackerError


@dataclasses.dataclass(frozen=True)
class WandbTracker:
    """A run at Weights & Biases.

    Attributes:
        project: the project that the run belongs to.
        entity: the team or user who owns the project; "" takes the key's own.
        name: of the run; "" takes that of its directory.
    """

    project: str = "bagpiper"
    entity: str = ""
    name: str = ""

    def open(self, run: TrackedRun) -> "_WandbRun":
        """Raises TrackerError: wandb is not installed."""
        try:
            import wandb
        except ImportError:
            raise TrackerError("WandbTracker needs Weights & Biases' client: pip install wandb") from None
        return _WandbRun(wandb, self, run)


class _WandbRun:
    def __init__(self, wandb, settings: WandbTracker, run: TrackedRun):
        self._wandb, self._settings, self._run = wandb, settings, run
        self._open: Any = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        # A step of our own: theirs must never go back, as it does where an attempt repeats lost steps.
        self._opened().log({"step": step, **values})

    def text(self, step: int, name: str, text: str) -> None:
        self._opened().config.update({f"{name}_{step}": text}, allow_val_change=True)

    def close(self, done: bool) -> None:
        self._opened().finish(exit_code=0 if done else 1)

    def _opened(self):
        if self._open is None:
            identifier = kept.read(self._run.directory, "wandb") or uuid.uuid4().hex[:12]
            self._open = self._wandb.init(
                project=self._settings.project,
                entity=self._settings.entity or None,
                name=self._settings.name or self._run.name,
                id=identifier,
                resume="allow",
                dir=str(self._run.directory),
                settings=self._wandb.Settings(console="off", x_disable_stats=True),
            )
            self._open.define_metric("*", step_metric="step")
            kept.keep(self._run.directory, "wandb", identifier)
        return self._open
