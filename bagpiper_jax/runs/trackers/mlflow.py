"""Numbers at an MLflow server: `pip install mlflow-skinny`.

Who may write is asked of the environment alone: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD.
"""

import dataclasses
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from bagpiper_jax.runs.trackers import kept
from bagpiper_jax.runs.trackers.protocol import TrackedRun, TrackerError

_T = TypeVar("_T")
_MOST = 500
"""Metrics that a call may have, by half: the server takes a thousand."""


@dataclasses.dataclass(frozen=True)
class MlflowTracker:
    """A run at an MLflow server.

    Attributes:
        uri: the address of the server, such as https://mlflow.example.org.
        experiment: the experiment that the run belongs to; made if missing.
        name: of the run; "" takes that of its directory.
    """

    uri: str
    experiment: str = "bagpiper"
    name: str = ""

    def __post_init__(self):
        if urllib.parse.urlsplit(self.uri).password is not None:
            raise ValueError(
                "MlflowTracker.uri holds a password, which would stand in logs and checkpoints; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )

    def open(self, run: TrackedRun) -> "_MlflowRun":
        """Raises TrackerError: MLflow's client is not installed."""
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise TrackerError("MlflowTracker needs MLflow's client: pip install mlflow-skinny") from None
        return _MlflowRun(MlflowClient(self.uri), self, run)


class _MlflowRun:
    """Speaks to the server at the first call, not before: it may be away while a run begins."""

    def __init__(self, client, settings: MlflowTracker, run: TrackedRun):
        self._client, self._settings, self._run = client, settings, run
        self._known: str | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        points = [Metric(name, float(value), now, step) for name, value in values.items()]
        for part in _parts(points, _MOST):
            self._client.log_batch(self._id(), metrics=part)

    def text(self, step: int, name: str, text: str) -> None:
        self._client.log_text(self._id(), text, f"{name}_{step}.txt")

    def close(self, done: bool) -> None:
        self._client.set_terminated(self._id(), "FINISHED" if done else "KILLED")

    def _id(self) -> str:
        if self._known is None:
            self._known = self._continued() or self._begun()
        return self._known

    def _continued(self) -> str | None:
        identifier = kept.read(self._run.directory, "mlflow")
        if identifier is not None:
            self._client.update_run(identifier, status="RUNNING")
        return identifier

    def _begun(self) -> str:
        experiment = self._client.get_experiment_by_name(self._settings.experiment)
        number = (
            self._client.create_experiment(self._settings.experiment)
            if experiment is None
            else experiment.experiment_id
        )
        made = self._client.create_run(number, run_name=self._settings.name or self._run.name)
        kept.keep(self._run.directory, "mlflow", made.info.run_id)
        return made.info.run_id


def _parts(values: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), most):
        yield values[start : start + most]
