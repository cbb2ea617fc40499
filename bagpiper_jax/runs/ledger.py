"""Where the wall time of a run went. Every second is in exactly one phase, over all attempts of the run.

setup       imports, joining the pod, opening caches
restore     reading a checkpoint, or making the first state
compile     tracing and compiling the steps
step        training steps that were kept
data        waiting for a batch
checkpoint  copying the state for a save, and waiting for the last one
eval        validation
lost        steps that a later attempt had to repeat
down        between the end of an attempt and the beginning of the next
"""

import contextlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bagpiper_jax import files

_log = logging.getLogger(__name__)

FILE = "goodput.json"
PHASES = ("setup", "restore", "compile", "step", "data", "checkpoint", "eval", "lost", "down")


class Ledger:
    """Counts seconds per phase of this attempt, and keeps those of earlier ones.

    Args:
        clock: seconds since 1970 by which phases are measured; by default one that nobody can set.
    """

    def __init__(self, clock: Callable[[], float] | None = None):
        self._clock = clock or _steady_clock()
        self.began = self.entered = self._clock()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._past: list[dict] = []
        self._path: Path | None = None
        self.phase, self.step, self._start, self.end = "setup", 0, 0, "running"

    def open(self, directory: Path, start: int, active: bool = True) -> None:
        """Reads the attempts before this one, which begins at step `start`, and from now on writes beside them.

        Only the `active` process does either; the others know no more than their own time.
        """
        self.step = self._start = start
        if not active:
            return
        path = directory / FILE
        self._past = [_without_lost(a, start) for a in _attempts(path)]
        self._path = path
        for attempt in self._past[-1:]:
            if attempt["end"] == "running":
                _log.warning(
                    "the attempt before this one ended at step %d without a word: killed, out of memory, or its "
                    "machine was lost", attempt["to_step"],
                )  # fmt: skip
                attempt["end"] = "killed"
        self.save()

    def now(self) -> float:
        """The time, never before what it was when the phase was entered."""
        return max(self._clock(), self.entered)

    def enter(self, phase: str) -> None:
        """Books the time since the last change to the phase that ends."""
        now = self.now()
        self._seconds[self.phase] += now - self.entered
        self.phase, self.entered = phase, now

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """A phase inside another one. An exception leaves it entered: the report says where the run failed."""
        outer = self.phase
        self.enter(phase)
        yield
        self.enter(outer)

    def waits(self, batches: Iterable) -> Iterator:
        """The batches; the time until each one comes is `data`."""
        iterator = iter(batches)
        while True:
            with self.during("data"):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per phase of this attempt, up to now."""
        self.enter(self.phase)
        return dict(self._seconds)

    @property
    def waited(self) -> float:
        """Seconds that this attempt waited for data; may be read by another thread."""
        return self._seconds["data"] + (self.now() - self.entered if self.phase == "data" else 0.0)

    def attempt(self) -> dict:
        """This attempt, as it is kept."""
        seconds = self.seconds
        return {
            "began": self.began, "ended": self.entered, "from_step": self._start, "to_step": self.step,
            "end": self.end, "seconds": seconds,
        }  # fmt: skip

    def total(self) -> dict:
        """All attempts together: wall seconds since the first began, seconds per phase, and the share of `step`.

        Where an attempt begins before the one before it ended, somebody set a clock back, or another machine's is
        behind: `clock_set_back_seconds` says by how much, and that pause counts as none.
        """
        attempts = [*self._past, self.attempt()]
        pauses = [b["began"] - a["ended"] for a, b in itertools.pairwise(attempts)]
        seconds = {phase: sum(max(a["seconds"][phase], 0.0) for a in attempts) for phase in PHASES}
        seconds["down"] = sum(pause for pause in pauses if pause > 0)
        wall = sum(seconds.values())
        total = {"wall_seconds": wall, "seconds": seconds, "goodput": seconds["step"] / max(wall, 1e-9)}
        set_back = -sum(pause for pause in pauses if pause < 0)
        return total | ({"clock_set_back_seconds": set_back} if set_back else {})

    def save(self) -> None:
        """Writes the account in one stroke. An attempt that is killed is known up to its last interval."""
        if self._path is None:
            return
        content = {**self.total(), "attempts": [*self._past, self.attempt()]}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(self._path, json.dumps(content, indent=1) + "\n")
        except OSError as error:  # the next interval writes all of it again
            _log.warning("cannot write %s: %s", self._path, error)


def _steady_clock() -> Callable[[], float]:
    """Seconds since 1970 as the machine's clock shows them now, and from here on evenly, whoever sets that clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def _attempts(path: Path) -> list[dict]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["attempts"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError) as error:
        _log.warning("%s is damaged (%s); the account of this run begins anew", path, error)
        return []


def _without_lost(attempt: dict, start: int) -> dict:
    """Time of steps after `start`, which are done again, becomes lost."""
    done = attempt["to_step"] - attempt["from_step"]
    again = min(done, max(0, attempt["to_step"] - start))
    seconds = dict(attempt["seconds"])
    if again:
        for phase in ("step", "data"):
            moved = seconds[phase] * again / done
            seconds[phase] -= moved
            seconds["lost"] += moved
    return {**attempt, "to_step": attempt["to_step"] - again, "seconds": seconds,
            "lost_steps": attempt.get("lost_steps", 0) + again}  # fmt: skip
