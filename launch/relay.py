"""Many commands at once: their output line by line, named by who wrote it, and how each of them ended."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

GRACE_SECONDS = 30
LAST_WORDS_SECONDS = 2


class Relay:
    """Commands that run together.

    Args:
        commands: argument lists, one per process.
        environments: the environment of each command; None takes this process's.
        logs: directory that also gets the output of each as `<index>.log`; appended, since runs continue.
    """

    def __init__(
        self,
        commands: Sequence[list[str]],
        environments: Sequence[dict] | None = None,
        logs: Path | None = None,
    ):
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
        self._changed = threading.Condition()
        self.first_failure: int | None = None
        self.processes = [
            subprocess.Popen(
                command,
                env=environments[index] if environments else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                bufsize=1,
            )
            for index, command in enumerate(commands)
        ]
        self._threads = [
            threading.Thread(target=self._attend, args=(index, logs and logs / f"{index}.log"), daemon=True)
            for index in range(len(commands))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def codes(self) -> list[int | None]:
        """Exit codes; None of those that run."""
        return [process.poll() for process in self.processes]

    def wait(self, grace: float = GRACE_SECONDS) -> list[int]:
        """Exit codes of all, in order. After the first failure the others have `grace` seconds to end as well."""
        with self._changed:
            self._changed.wait_for(lambda: all(c == 0 for c in self.codes) or self.first_failure is not None)
            self._changed.wait_for(lambda: None not in self.codes, timeout=grace)
        self.stop()
        for thread in self._threads:
            thread.join()
        return [process.wait() for process in self.processes]

    def send(self, number: int) -> None:
        """A signal to all that run."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def stop(self) -> None:
        """Ends those that run, politely at first."""
        self.send(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        self.send(signal.SIGKILL)

    def _attend(self, index: int, log: Path | None) -> None:
        reader = threading.Thread(target=self._follow, args=(index, log), daemon=True)
        reader.start()
        code = self.processes[index].wait()
        reader.join(LAST_WORDS_SECONDS)  # what it started may live on and keep its output open
        with self._changed:
            if code and self.first_failure is None:
                self.first_failure = code
            self._changed.notify_all()

    def _follow(self, index: int, log: Path | None) -> None:
        process = self.processes[index]
        with open(log, "a", encoding="utf-8") if log else contextlib.nullcontext() as file:
            for line in process.stdout:
                print(f"[{index}] {line}", end="" if line.endswith("\n") else "\n", flush=True)
                if file:
                    file.write(line)
                    file.flush()


@contextlib.contextmanager
def signals_to(relay: Relay, *numbers: int) -> Iterator[list[int]]:
    """While it lasts, these signals to this process go to all commands. Gives the list of those that came."""
    received = []

    def forward(number: int, _) -> None:
        received.append(number)
        relay.send(number)

    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shell_code(code: int) -> int:
    """An exit code as a shell gives it: a process killed by signal n ended with 128 + n."""
    return code if code >= 0 else 128 - code


def say(text: str) -> None:
    print(f"pod: {text}", file=sys.stderr, flush=True)
