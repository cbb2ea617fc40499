"""What both launchers share: their flags and exit codes, and commands that are run, or only printed."""

import argparse
import shlex
import shutil
import subprocess
import sys
import time

from gcloud import PodError
from preflight import Reader, check_gin_files, module_and_flags
from relay import say

EXIT_FAULT = 2
EXIT_TRY_AGAIN = 75

TRANSIENT = (
    "UNAVAILABLE",
    "INTERNAL",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "Connection reset",
    "Temporary failure",
)
PAUSES = (5, 15, 60)


def parse_with_job(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """This process's flags, and as `job` the module and flags that stand after `--`, which `up` must have.

    Raises:
        PodError: there is no such job.
    """
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    flags = parser.parse_args(arguments[:cut])
    flags.job = arguments[cut + 1 :]
    if flags.action == "up" and not flags.job:
        parser.error("give a job after --, e.g. -- train --gin_file=runs/…")
    if flags.action == "up":
        flags.job = module_and_flags(flags.job)
    return flags


def check_files(job: list[str], read: Reader, where: str, dry_run: bool) -> None:
    """As `check_gin_files`; a dry run, which costs nothing, says what is missing and goes on."""
    try:
        check_gin_files(job, read, where)
    except PodError as error:
        if not dry_run:
            raise
        say(str(error))


class Commands:
    """Runs argument lists; no shell is involved.

    Args:
        dry_run: only prints them, ready to be pasted into a shell.
        pauses: seconds before what failed for a passing reason is tried again.
    """

    def __init__(self, dry_run: bool = False, pauses: tuple[float, ...] = PAUSES):
        self.dry_run, self._pauses = dry_run, pauses

    def show(self, command: list[str]) -> None:
        print(shlex.join(command), flush=True)

    def require(self, *tools: str) -> None:
        """Raises PodError: one of the tools is not installed."""
        for tool in tools:
            if not self.dry_run and not shutil.which(tool):
                raise PodError(f"{tool} is not installed; see docs/running.md")

    def run(self, command: list[str], doing: str) -> str:
        """Output of a command; "" in a dry run. Raises PodError with what the command said."""
        if self.dry_run:
            self.show(command)
            return ""
        for pause in (*self._pauses, None):
            self.require(command[0])
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout
            if pause is None or not any(word in done.stderr for word in TRANSIENT):
                raise PodError(f"{doing} failed: {_explained(done.stderr)}\n  command: {shlex.join(command)}")
            say(f"{doing} failed for now, next try in {pause} s: {done.stderr.strip().splitlines()[-1]}")
            time.sleep(pause)


def _explained(message: str) -> str:
    """gcloud's words, and a remedy where the fault is a common one."""
    message = message.strip()[-2000:]
    for words, remedy in (
        (("Quota", "quota", "RESOURCE_EXHAUSTED"),
         "The project may not have that many chips of this kind in this zone: ask for quota, or change --type, --zone "
         "or --spot."),
        (("PERMISSION_DENIED", "not logged in", "credentials"),
         "Log in with `gcloud auth login`, and check --project."),
        (("NOT_FOUND",), "Check --name, --zone and --project."),
    ):  # fmt: skip
        if any(word in message for word in words):
            return f"{message}\n  {remedy}"
    return message
