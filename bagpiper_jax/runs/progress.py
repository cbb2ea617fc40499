"""A progress bar with rate and remaining time; plain log lines where nobody watches a terminal."""

import datetime
import logging
import sys
import time

_log = logging.getLogger(__name__)


class Progress:
    """Progress over steps `start` to `total`.

    Args:
        start: steps done before this process began.
        total: the number of steps of the run.
        active: whether this process shows anything.
    """

    def __init__(self, start: int, total: int, active: bool = True):
        self._start, self._total, self._active = start, total, active
        self._began = time.monotonic()
        self._bar = terminal_bar(initial=start, total=total, unit="step") if active else None

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, scalars: dict[str, float]) -> None:
        """Shows the main numbers of a step."""
        shown = {
            name: scalars[name] for name in ("loss", "unigram_loss", "tokens_per_second") if name in scalars
        }
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        elif self._active:
            _log.info("step %d/%d, %s, %s left", step, self._total, text, self._remaining(step))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def _remaining(self, step: int) -> str:
        done = step - self._start
        if done <= 0:
            return "unknown time"
        seconds = (time.monotonic() - self._began) / done * (self._total - step)
        return str(datetime.timedelta(seconds=round(seconds)))


def terminal_bar(**options):
    """tqdm's bar; None without tqdm, or where nobody watches a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(dynamic_ncols=True, **options) if sys.stderr.isatty() else None
