"""TensorBoard's files at Vertex AI, uploaded while they grow: `pip install 'google-cloud-aiplatform[tensorboard]'`.

Who may write is the machine's service account, or GOOGLE_APPLICATION_CREDENTIALS.
"""

import dataclasses
from collections.abc import Mapping

from bagpiper_jax.runs.trackers.protocol import TrackedRun, TrackerError


@dataclasses.dataclass(frozen=True)
class VertexTracker:
    """A run at a Vertex AI TensorBoard.

    Attributes:
        project, location: of the TensorBoard.
        tensorboard: its number.
        experiment: the experiment that the run belongs to.
    """

    project: str
    location: str
    tensorboard: str
    experiment: str = "bagpiper"

    def open(self, run: TrackedRun) -> "_VertexRun":
        """Raises TrackerError: Vertex's client is not installed."""
        try:
            from google.cloud import aiplatform
        except ImportError:
            raise TrackerError(
                "VertexTracker needs Vertex's client: pip install 'google-cloud-aiplatform[tensorboard]'"
            ) from None
        return _VertexRun(aiplatform, self, run)


class _VertexRun:
    """The uploader reads the event files; so the first call begins it, and points need no call of their own."""

    def __init__(self, aiplatform, settings: VertexTracker, run: TrackedRun):
        self._client, self._settings, self._run = aiplatform, settings, run
        self._uploads = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._begin()

    def text(self, step: int, name: str, text: str) -> None:
        self._begin()

    def close(self, done: bool) -> None:
        if self._uploads:
            self._client.end_upload_tb_log()

    def _begin(self) -> None:
        if self._uploads:
            return
        self._client.init(project=self._settings.project, location=self._settings.location)
        self._client.start_upload_tb_log(
            tensorboard_id=self._settings.tensorboard,
            tensorboard_experiment_name=self._settings.experiment,
            logdir=str(self._run.directory / "tensorboard"),
            run_name_prefix=self._run.name,
        )
        self._uploads = True
