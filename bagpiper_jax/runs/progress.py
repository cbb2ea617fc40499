"""What is told of work that lasts: a bar on a terminal, plain log lines where nobody watches one."""

import datetime
import logging
import sys
import threading
import time

SECONDS_BETWEEN_LINES = 5
_log = logging.getLogger(__name__)


class Progress:
    """Progress over steps `start` to `total`: never silent for much more than five seconds while steps are done.

    Args:
        start: steps done before this process began.
        total: the number of steps of the run.
        active: whether this process shows anything.
    """

    def __init__(self, start: int, total: int, active: bool = True):
        self._start, self._total, self._active = start, total, active
        self._step, self._began = start, time.monotonic()
        self._told = self._began
        self._bar = terminal_bar(initial=start, total=total, unit="step") if active else None

    def step(self) -> None:
        """One more step is done."""
        self._step += 1
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._tell(self._step)

    def report(self, step: int, scalars: dict[str, float], kind: str = "train") -> None:
        """Shows the main numbers of a step; those of another kind than training's begin with its name."""
        shown = {
            name: scalars[name] for name in ("loss", "unigram_loss", "tokens_per_second") if name in scalars
        }
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if kind != "train":
            if self._active:
                _log.info("%s at step %d: %s", kind, step, text)
        elif self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self._tell(step, text)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def _tell(self, step: int, text: str = "") -> None:
        self._told = time.monotonic()
        if self._active:
            text = f"{text}, " if text else ""
            _log.info("step %d/%d, %s%s left", step, self._total, text, self._remaining(step))

    def _remaining(self, step: int) -> str:
        done = step - self._start
        if done <= 0:
            return "unknown time"
        seconds = (time.monotonic() - self._began) / done * (self._total - step)
        return str(datetime.timedelta(seconds=round(seconds)))


class Underway:
    """Says every five seconds, until it ends, that something is under way, and how far it is.

    Used as `with Underway("compiling"):`. What ends sooner says nothing.

    Args:
        what: the name of the work, as a log line begins.
        total: the number of things to do; 0 where nothing is counted.
        done: the number of those that were done before.
        active: whether this process says anything.
    """

    def __init__(self, what: str, total: int = 0, done: int = 0, active: bool = True):
        self._what, self._total, self._done, self._active = what, total, done, active
        self._start = done
        self._bar = terminal_bar(desc=what, initial=done, total=total) if total and active else None
        self._began, self._ended = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._tell, name="underway", daemon=True)

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> "Underway":
        if self._active and self._bar is None:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._bar is not None:
            self._bar.close()

    def _tell(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LINES):
            far = f"{self._done} of {self._total}, " if self._total else ""
            passed = time.monotonic() - self._began
            _log.info("%s: %s%.0f s%s", self._what, far, passed, self._remaining(passed))

    def _remaining(self, passed: float) -> str:
        """What the rest will take at the pace so far, once anything is done."""
        done, left = self._done - self._start, self._total - self._done
        if done <= 0 or left <= 0:
            return ""
        return f", {datetime.timedelta(seconds=round(passed / done * left))} left"


def terminal_bar(**options):
    """tqdm's bar; None without tqdm, or where nobody watches a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(dynamic_ncols=True, **options) if sys.stderr.isatty() else None
