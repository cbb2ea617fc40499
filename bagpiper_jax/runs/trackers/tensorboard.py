"""Scalars and texts for TensorBoard, through tensorboardX's event files."""

import logging
import time
from pathlib import Path

_log = logging.getLogger(__name__)


class Board:
    """Writes events in the caller's thread. A disk that fails costs the events of this attempt, never the run.

    tensorboardX's own `SummaryWriter` writes in a thread behind a short queue; a full disk ends that thread, and the
    next calls then wait for ever.

    Args:
        directory: the directory of the events; created if missing.
        step: the step that the run continues from; TensorBoard hides what an earlier attempt wrote after it.
    """

    def __init__(self, directory: Path, step: int):
        self._writer, self._directory = None, directory
        try:
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2
        except ImportError:
            _log.warning("tensorboardX is not installed; metrics go to metrics.jsonl only")
            return
        self._summary, self._proto = summary, event_pb2
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = event_file_writer.EventsWriter(str(directory / "events"))
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(step=step + 1, session_log=log))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One point per name."""
        if self._writer:
            points = [point for name, x in values.items() for point in self._summary.scalar(name, x).value]
            self._write(self._event(step, points))

    def text(self, step: int, name: str, text: str) -> None:
        """A text, shown as it is."""
        if self._writer:
            shown = "\n".join(f"    {line}" for line in text.splitlines())
            self._write(self._event(step, self._summary.text(name, shown).value))

    def close(self) -> None:
        if self._writer:
            self._guarded(self._writer.close)

    def _event(self, step: int, values):
        return self._proto.Event(step=step, summary=type(self._summary.scalar("", 0.0))(value=values))

    def _write(self, event) -> None:
        event.wall_time, writer = time.time(), self._writer
        if writer:
            self._guarded(lambda: (writer.write_event(event), writer.flush()))

    def _guarded(self, write) -> None:
        try:
            write()
        except OSError as error:
            _log.warning("no more events in %s: %s. metrics.jsonl goes on", self._directory, error)
            self._writer = None
