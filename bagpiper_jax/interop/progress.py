"""Bytes moved, with rate and remaining time: a bar on a terminal, a log line every five seconds elsewhere."""

import logging
import time

from bagpiper_jax.runs.progress import SECONDS_BETWEEN_LINES, terminal_bar

_log = logging.getLogger(__name__)


class ByteProgress:
    """Progress of moving `total` bytes.

    Args:
        total: of the whole job.
        what: shown before the numbers.
        done: bytes that need not be moved any more.
    """

    def __init__(self, total: int, what: str, done: int = 0):
        self._total, self._what, self._done, self._start = total, what, done, done
        self._began = self._shown = time.monotonic()
        self._bar = terminal_bar(
            total=total, initial=done, desc=what, unit="B", unit_scale=True, unit_divisor=1000
        )

    def add(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self._line()

    def _line(self) -> None:
        moved = self._done - self._start
        rate = moved / max(time.monotonic() - self._began, 1e-3)
        left = (self._total - self._done) / max(rate, 1)
        _log.info(
            "%s: %.2f of %.2f GB, %.0f MB/s, %.0f s left",
            self._what, self._done / 1e9, self._total / 1e9, rate / 1e6, left,
        )  # fmt: skip

    def __enter__(self) -> "ByteProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._line()
