"""A trace of chosen steps, for XProf: `tensorboard --logdir <output>/profile` or `xprof <output>/profile`."""

import logging
from pathlib import Path

import jax

_log = logging.getLogger(__name__)


class Profile:
    """Traces steps `first` to `last` into a directory; one per process. Does nothing without a range.

    Args:
        directory: the directory of the traces.
        steps: (first, last), counted from 1 as everywhere, or ().
    """

    def __init__(self, directory: Path, steps: tuple[int, ...] = ()):
        self._directory, self._steps, self._running = directory, steps, False

    def before(self, step: int) -> jax.profiler.StepTraceAnnotation:
        """To be called before a step is dispatched; a context in which to dispatch it."""
        if self._steps and not self._running and self._steps[0] <= step <= self._steps[1]:
            jax.profiler.start_trace(str(self._directory))
            self._running = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def after(self, step: int, results) -> None:
        """Ends the trace after its last step, when `results` are there."""
        if self._running and step >= self._steps[1]:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        if self._running:
            self._running = False
            self._steps = ()
            jax.profiler.stop_trace()
            _log.info("the profile is in %s", self._directory)
