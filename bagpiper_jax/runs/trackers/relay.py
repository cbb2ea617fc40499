"""Points on their way to a service that may be slow, or away.

A thread hands them over and tries again; nobody waits for it but the end of the run.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Mapping

from bagpiper_jax.runs.trackers.protocol import Tracker

_log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Calls kept for a service that is away: a week of a line every minute."""

PATIENCE = 30.0
"""Seconds that the end of a run waits for what is still under way."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Relay:
    """Hands calls to a tracker in their order, each until it succeeds, and says when the service is away, and back.

    What does not arrive is counted and named at the end: `metrics.jsonl` has it.

    Args:
        name: of the service, for messages.
        tracker: of one run; called by one thread alone.
        pause: seconds before the second try of a call; each further one waits twice as long.
    """

    def __init__(self, name: str, tracker: Tracker, pause: float = _FIRST_PAUSE):
        self._name, self._tracker, self._pause = name, tracker, pause
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._changed = threading.Condition()
        self._ending, self._told, self._lost = False, False, 0
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._put(lambda: self._tracker.scalars(step, values))

    def text(self, step: int, name: str, text: str) -> None:
        self._put(lambda: self._tracker.text(step, name, text))

    def close(self, done: bool, patience: float | None = None) -> None:
        """Waits for what is under way, at most `patience` seconds, `PATIENCE` by default.

        A run that told nothing is none to its service.
        """
        patience = PATIENCE if patience is None else patience
        if self._told:
            self._put(lambda: self._tracker.close(done))
        with self._changed:
            self._ending, self._deadline = True, time.monotonic() + patience
            self._changed.notify()
        self._thread.join(patience + 1)
        lost = self._lost + len(self._waiting)
        if lost:
            _log.warning(
                "%s did not get %d of this run's calls; metrics.jsonl has all points", self._name, lost
            )

    def _put(self, call: Callable[[], None]) -> None:
        with self._changed:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(call)
            self._told = True
            self._changed.notify()

    def _work(self) -> None:
        while (call := self._next()) is not None:
            if not self._delivered(call):
                return

    def _next(self) -> Callable[[], None] | None:
        """The oldest call, which stays in the queue until it has succeeded; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return self._waiting[0] if self._waiting else None

    def _delivered(self, call: Callable[[], None]) -> bool:
        """Whether the call succeeded before the run's end, and the patience after it, were over."""
        pause, away = self._pause, False
        while True:
            try:
                call()
            except Exception as error:
                if not away:
                    _log.warning(
                        "%s does not answer, points wait: %s: %s", self._name, type(error).__name__, error
                    )
                away = True
            else:
                break
            if not self._rest(pause):
                return False
            pause = min(2 * pause, _LONGEST_PAUSE)
        if away:
            _log.warning("%s answers again", self._name)
        with self._changed:
            if self._waiting and self._waiting[0] is call:
                self._waiting.popleft()
        return True

    def _rest(self, seconds: float) -> bool:
        """Waits before the next try, shorter where the run ends meanwhile; False if there is no time for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending, timeout=seconds)
            if not self._ending:
                return True
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        threading.Event().wait(min(seconds, left))
        return True
