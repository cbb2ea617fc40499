"""Every process says what it is doing, so that a run that stands still has a name to it.

A thread of each process writes `hosts/<process>.json` in the run's directory. A process that waits long for its own
batches says so; the first process compares all files when no step ends, and names who keeps the others waiting.
"""

import contextlib
import dataclasses
import faulthandler
import logging
import os
import socket
import threading
import time

from bagpiper_jax.errors import EXIT_TRY_AGAIN
from bagpiper_jax.runs.faults import TrainingError, process_name, write_crash
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.outputs import Output
from bagpiper_jax.runs.signs import DIRECTORY, read_sign, sign_path, write_sign

_log = logging.getLogger(__name__)

WATCHED = ("data", "step", "checkpoint")
"""Phases that can stand still for reasons outside this program."""
SLOW_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class WatchConfig:
    """How a run is watched.

    Attributes:
        beat_seconds: the time between two signs of life.
        stall_seconds: the time without a step after which the hosts are compared, and the culprit named.
        give_up_seconds: the time without a step after which the process ends with exit code 75, to be started again.
        profile: first and last step to trace into `<output>/profile`; none without.
    """

    beat_seconds: float = 10.0
    stall_seconds: float = 120.0
    give_up_seconds: float = 3600.0
    profile: tuple[int, ...] = ()

    def __post_init__(self):
        if not 0 < self.beat_seconds <= self.stall_seconds < self.give_up_seconds:
            raise ValueError(
                f"beat_seconds ≤ stall_seconds < give_up_seconds must hold and be positive: {self}"
            )
        if self.profile and (len(self.profile) != 2 or not 1 <= self.profile[0] <= self.profile[1]):
            raise ValueError(f"profile must be (first step, last step), got {self.profile}")


class Heartbeat:
    """The thread; use it as a context manager.

    Args:
        output: the output of the run, whose `path` all hosts see. The first process's thread also pushes it.
        ledger: the ledger of this process.
        config: the intervals of beats and the time after which silence counts.
        index, count: the number of this process, and of all processes.
    """

    def __init__(self, output: Output, ledger: Ledger, config: WatchConfig, index: int, count: int):
        self._output, self._directory = output, output.path / DIRECTORY
        self._ledger, self._config, self._index, self._count = ledger, config, index, count
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._reported_at = (-1, "")
        self._waited = (ledger.now(), 0.0)

    def __enter__(self) -> "Heartbeat":
        self._directory.mkdir(parents=True, exist_ok=True)
        local = self._output.local / DIRECTORY
        local.mkdir(parents=True, exist_ok=True)
        self._stacks = open(local / f"{self._index}.stack.txt", "w", encoding="utf-8")
        faulthandler.enable(self._stacks)  # a crash in native code leaves the Python stacks there
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # each file system of a cloud has its own kinds
            self._leave_sign(ended=True)
        faulthandler.enable()
        self._stacks.close()

    def _run(self) -> None:
        while not self._done.wait(self._config.beat_seconds):
            try:
                self._beat()
            except Exception as error:  # each file system of a cloud has its own kinds
                _log.warning(
                    "%s cannot leave a sign of life in %s: %s", process_name(), self._directory, error
                )

    def _beat(self) -> None:
        now, phase, elapsed = self._leave_sign()
        if self._index == 0:
            self._output.push()
        self._report_slow_data(self._ledger.now())
        stalled = elapsed if phase in WATCHED else 0.0
        if stalled > self._config.stall_seconds and self._reported_at != (self._ledger.step, phase):
            self._reported_at = (self._ledger.step, phase)
            self._report_stall(phase, stalled, now)
        if stalled > self._config.give_up_seconds:
            self._give_up(phase, stalled)

    def _leave_sign(self, ended: bool = False) -> tuple[float, str, float]:
        """Writes what this process does; the time, the phase, and its seconds so far by a clock that nobody sets."""
        now, phase, since = time.time(), self._ledger.phase, self._ledger.entered
        elapsed = max(self._ledger.now() - since, 0.0)
        sign = {"host": socket.gethostname(), "pid": os.getpid(), "time": now, "step": self._ledger.step,
                "phase": phase, "since": now - elapsed, "ended": ended}  # fmt: skip
        write_sign(sign_path(self._output.path, self._index), sign)
        return now, phase, elapsed

    def _report_slow_data(self, now: float) -> None:
        """Once per stall time: this host's share of time without a batch."""
        (then, before), waited = self._waited, self._ledger.waited
        if now - then < self._config.stall_seconds:
            return
        self._waited = now, waited
        share = (waited - before) / (now - then)
        if share > SLOW_SHARE:
            _log.warning(
                "%s waited for data %.0f %% of the last %.0f s; its disk, network or processor is the straggler",
                process_name(), 100 * share, now - then,
            )  # fmt: skip

    def _report_stall(self, phase: str, stalled: float, now: float) -> None:
        faulthandler.dump_traceback(self._stacks)
        _log.warning(
            "%s is in %s at step %d for %.0f s; the stacks of its threads are in %s",
            process_name(), phase, self._ledger.step, stalled, self._stacks.name,
        )  # fmt: skip
        if self._index == 0 and self._count > 1:
            for line in compare(self._signs(), now, self._config.stall_seconds):
                _log.warning("%s", line)

    def _signs(self) -> dict[int, dict]:
        return {i: read_sign(sign_path(self._output.path, i)) for i in range(self._count)}

    def _give_up(self, phase: str, stalled: float) -> None:
        error = TrainingError(
            f"no progress in {phase} for {stalled:.0f} s; see the warnings above for the host at fault, and "
            f"{self._stacks.name} for what this process was doing. Run again to continue from the last checkpoint"
        )
        self._ledger.end = f"gave up: {error}"
        write_crash(self._output.path, self._ledger, error)
        os._exit(EXIT_TRY_AGAIN)  # the main thread is stuck in native code, and no exception reaches it there


def compare(signs: dict[int, dict], now: float, limit: float) -> list[str]:
    """Who keeps the others waiting: one line per process that is silent, behind, or without data.

    Args:
        signs: process → its last sign of life, {} if it left none.
        now, limit: seconds.
    """
    furthest = max((s["step"] for s in signs.values() if s), default=0)
    lines = []
    for index, sign in sorted(signs.items()):
        name = f"process {index} ({sign.get('host', 'unknown host')})"
        if not sign:
            lines.append(
                f"{name} left no sign of life: not started, or it cannot write to the run's directory"
            )
        elif now - sign["time"] > limit:
            lines.append(f"{name} is silent for {now - sign['time']:.0f} s: dead, frozen or cut off")
        elif sign["phase"] == "data" and now - sign["since"] > limit / 2:
            lines.append(
                f"{name} waits for the batch of step {sign['step'] + 1} for {now - sign['since']:.0f} s: look at "
                "its disk, network and data workers"
            )
        elif sign["phase"] not in ("step", "data"):
            lines.append(
                f"{name} is in {sign['phase']} for {now - sign['since']:.0f} s, at step {sign['step']}"
            )
        elif sign["step"] < furthest - 1:
            lines.append(f"{name} is at step {sign['step']} in {sign['phase']}, others at {furthest}")
    return lines or ["all processes are alive and wait in the same step: look at the network between them"]
