"""Where the files of a run are. Checkpoints go straight to its output, which may be a bucket.

Small files that grow line by line (metrics, TensorBoard, skipped steps) cannot grow in a bucket. They are written in a
local directory, copied to the bucket by the heartbeat, and fetched from there when the run continues elsewhere.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from bagpiper_jax import buckets, files
from bagpiper_jax.runs import output_lock
from bagpiper_jax.runs.signs import sign_path

_log = logging.getLogger(__name__)

PUSH_SECONDS = 60
CONTINUED = ("metrics.jsonl", "goodput.json", "environment.jsonl", "skipped.jsonl", "trackers.json")
"""Files that an attempt adds to."""


class Output:
    """The output of a run.

    Attributes:
        path: the path in the settings, local or e.g. "gs://bucket/run"; all processes see it.
        local: the same, or for a bucket `runs/buckets/<bucket>/<run>` under the working directory.
    """

    def __init__(self, path: str | os.PathLike):
        text = os.fspath(path)
        self.path = epath.Path(text)
        self._is_bucket = buckets.is_bucket(text)
        self.local = buckets.local_of(text)
        self._pushed: dict[Path, tuple] = {}
        self._pushed_at = 0.0
        self._held = False

    @contextlib.contextmanager
    def held(self, beat_seconds: float) -> Iterator[None]:
        """Keeps other runs out while the body runs; does nothing inside another `held`. For a run's first process.

        Args:
            beat_seconds: between two signs of life of a run; in a bucket they tell whether one is alive.

        Raises:
            OutputInUseError: a run is alive there.
            OutputError: the output cannot be written to.
        """
        if self._held:
            yield
            return
        with output_lock.hold(self.local):
            if self._is_bucket:
                output_lock.require_quiet(sign_path(self.path, 0), beat_seconds)
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def fetch(self) -> None:
        """Brings what earlier attempts wrote. Call it in the process that writes."""
        self.local.mkdir(parents=True, exist_ok=True)
        for name in CONTINUED if self._is_bucket else ():
            if (self.path / name).exists():
                (self.local / name).write_bytes((self.path / name).read_bytes())

    def push(self, now: bool = False) -> None:
        """Copies what changed to the bucket, once a minute or `now`; a copy that fails is made next time."""
        if not self._is_bucket or not (now or time.monotonic() - self._pushed_at > PUSH_SECONDS):
            return
        self._pushed_at = time.monotonic()
        for file in sorted(p for p in self.local.rglob("*") if p.is_file() and not files.is_temporary(p)):
            stat = file.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if self._pushed.get(file) == state:
                continue
            target = self.path / file.relative_to(self.local).as_posix()
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
                self._pushed[file] = state
            except Exception as error:  # each file system of a cloud has its own kinds
                _log.warning("%s could not be copied to %s: %s; trying again later", file, target, error)
