"""A pod of TPU VMs: creates it, runs a job on all its hosts, watches, starts it again, deletes it.

    python launch/tpu_pod.py up --name=NAME --project=P --zone=Z --type=v5p-128 -- train --gin_file=…
    python launch/tpu_pod.py status|stop|delete --name=NAME --project=P --zone=Z --type=v5p-128

`up` does whatever is still to be done, so it may be run again at any time, from any machine: it creates the queued
resource and waits for it, installs the last commit, starts the job on every host and shows the output of all
(kept as runs/pods/NAME/<host>.log). It starts the job again when it ends with exit code 75 or when hosts are lost,
on a new pod if the old one was taken away. Ctrl-C leaves the job running. `--dry_run` prints every command instead.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import gcloud
import preflight
from commands import EXIT_FAULT, EXIT_TRY_AGAIN, Commands, check_files, parse_with_job
from gcloud import Pod, PodError
from relay import Relay, say

OCCUPIED = 69
"""Exit code of on_host.py where something else runs."""
LOST = 255
"""Exit code of ssh when the connection breaks."""
LOGS = Path("runs/pods")
GONE = ("SUSPENDING", "SUSPENDED", "DELETING")
SOON = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
QUICK_SECONDS, QUICK_LIMIT = 300, 3


def main() -> int:
    try:
        flags = _flags()
        pod = Pod(flags.name, flags.project, flags.zone, flags.type, flags.slices, flags.spot, flags.reserved,
                  flags.runtime)  # fmt: skip
        launcher = Launcher(pod, Commands(flags.dry_run), flags.poll_seconds)
        return (
            launcher.up(flags.job, flags.restarts)
            if flags.action == "up"
            else getattr(launcher, flags.action)()
        )
    except PodError as error:
        print(f"tpu_pod: {error}", file=sys.stderr)
        return EXIT_FAULT
    except KeyboardInterrupt:
        say("detached; what runs on the pod goes on. `up` attaches again, `stop` and `delete` end it")
        return 130


class Launcher:
    """What can be done with a pod; each method returns an exit code."""

    def __init__(self, pod: Pod, commands: Commands, poll_seconds: float = 30):
        self._pod, self._commands, self._poll_seconds = pod, commands, poll_seconds
        self._logs = LOGS / pod.name

    def up(self, job: list[str], restarts: int) -> int:
        self._commands.require("gcloud", "git")
        commit = self._commit()
        check_files(job, preflight.of_commit(commit), "the last commit", self._commands.dry_run)
        quick = 0
        for attempt in range(restarts + 1):
            code, began, name = LOST, time.monotonic(), f"{time.time():.3f}"
            while code == LOST:
                nodes = self._wait_until_active()
                self._install_once(commit)
                code = self._run(job, name, nodes)
            if code != EXIT_TRY_AGAIN:
                return code
            quick = quick + 1 if time.monotonic() - began < QUICK_SECONDS else 0
            if quick == QUICK_LIMIT:
                raise PodError(
                    f"the job ended {quick} times within {QUICK_SECONDS} s; read {self._logs}/*.log"
                )
            say(f"attempt {attempt + 1} ended early; starting again")
        raise PodError(f"the job was started {restarts + 1} times, which is the limit; --restarts sets it")

    def status(self) -> int:
        state = self._state()
        if not self._commands.dry_run:
            say(f"{self._pod.name} is {state or 'not there'}")
        return 0

    def stop(self) -> int:
        self._commands.run(gcloud.stop(self._pod), "stopping the job")
        return 0

    def delete(self) -> int:
        self._commands.run(gcloud.delete(self._pod), "deleting the pod")
        return 0

    def _describe(self) -> dict:
        """{} if there is no such pod."""
        try:
            return json.loads(self._commands.run(gcloud.describe(self._pod), "describing the pod") or "{}")
        except PodError as error:
            if "NOT_FOUND" in str(error):
                return {}
            raise

    def _state(self) -> str:
        return self._describe().get("state", {}).get("state", "")

    def _wait_until_active(self) -> list[str]:
        """Creates the pod if it is not there or was taken away; names of its nodes."""
        if self._commands.dry_run:
            self._commands.run(gcloud.create(self._pod), "creating the pod")
            self._commands.run(gcloud.describe(self._pod), "describing the pod")
            name, slices = self._pod.name, self._pod.slices
            return [name if slices == 1 else f"{name}-{i}" for i in range(slices)]
        shown = ""
        while True:
            found = self._describe()
            state = found.get("state", {}).get("state", "")
            if state == "ACTIVE":
                return [spec["nodeId"] for spec in found["tpu"]["nodeSpec"]]
            if state == "FAILED":
                reason = (
                    found["state"].get("failedData", {}).get("error", {}).get("message", "no reason given")
                )
                raise PodError(f"the request for {self._pod.name} failed: {reason}. `delete` removes it")
            if state in GONE:
                say(f"{self._pod.name} is {state}; deleting it to ask for another one")
                self._commands.run(gcloud.delete(self._pod), "deleting the pod")
            elif not state:
                self._commands.run(gcloud.create(self._pod), "creating the pod")
            elif state not in SOON:
                raise PodError(f"{self._pod.name} is in the state {state}, which this launcher does not know")
            if state != shown:
                say(f"{self._pod.name}: {state or 'asked for'}")
                shown = state
            time.sleep(self._poll_seconds)

    def _commit(self) -> str:
        """The last commit now, which all attempts of this launcher run, whatever is committed meanwhile."""
        if self._commands.dry_run:
            return "HEAD"
        commit = self._commands.run(["git", "rev-parse", "HEAD"], "asking git for the last commit").strip()
        changed = self._commands.run(["git", "status", "--porcelain", "--untracked-files=no"], "asking git")
        if names := [line[3:] for line in changed.splitlines()]:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            say(f"{len(names)} changed files are not committed, and so not installed on the pod: {shown}")
        return commit

    def _install_once(self, commit: str) -> None:
        """Puts a commit on every host of a pod that has not got it."""
        archive = ["git", "archive", "--format=tar.gz", f"--output={gcloud.BUNDLE}", commit]
        commands = archive, gcloud.upload(self._pod), gcloud.install(self._pod, commit)
        if self._commands.dry_run:
            for command in commands:
                self._commands.show(command)
            return
        mark, wanted = self._logs / "installed", f"{self._describe().get('createTime', '')} {commit}"
        if mark.exists() and mark.read_text() == wanted:
            return
        mark.unlink(missing_ok=True)
        say(f"installing commit {commit[:12]} on all hosts of {self._pod.name}")
        doing = "packing the repository", "copying to the hosts", "installing on the hosts"
        for command, what in zip(commands, doing, strict=True):
            self._commands.run(command, what)
        self._logs.mkdir(parents=True, exist_ok=True)
        mark.write_text(wanted)

    def _run(self, job: list[str], attempt: str, nodes: list[str]) -> int:
        """Runs the job to its end on every host: 0, 75 to be started again, 255 to come back, or a failure's code."""
        coordinator, hosts = self._hosts(nodes)
        attempt = "TIME" if self._commands.dry_run else attempt
        commands = gcloud.start(self._pod, job, attempt, coordinator, hosts)
        if self._commands.dry_run:
            for command in commands:
                self._commands.show(command)
            return 0
        say(f"{len(commands)} hosts; their output is in {self._logs}")
        relay = Relay(commands, logs=self._logs)
        try:
            codes = relay.wait(grace=120)
        except KeyboardInterrupt:
            relay.stop()  # the connections, not the job
            raise
        if not any(codes):
            say(f"done. The pod is still there: `delete` gives {self._pod.name} back")
            return 0
        if OCCUPIED in codes:
            raise PodError(f"another job runs on {self._pod.name}: {self._logs}/*.log; `stop` ends it")
        failed = {host: code for host, code in enumerate(codes) if code}
        state = self._state()
        first = relay.first_failure
        say(f"exit codes by host: {failed}; the first was {first}; {self._pod.name} is {state or 'gone'}")
        if state != "ACTIVE":
            return EXIT_TRY_AGAIN
        if first == LOST or first < 0:  # of the connections; the job knows nothing of it
            time.sleep(self._poll_seconds)
            return LOST
        self._commands.run(gcloud.stop(self._pod), "stopping what is left of the job")
        if EXIT_TRY_AGAIN in codes or first > 128:
            return EXIT_TRY_AGAIN
        say(f"this is no fault that another start would mend: read {self._logs}/{codes.index(first)}.log")
        return first

    def _hosts(self, nodes: list[str]) -> tuple[str, list[int]]:
        """(address of the first host, hosts of each slice)."""
        found = [
            self._commands.run(gcloud.describe_node(self._pod, node), f"describing {node}") for node in nodes
        ]
        if self._commands.dry_run:
            return "FIRST_HOST", [self._pod.hosts] * self._pod.slices
        ends = [json.loads(text)["networkEndpoints"] for text in found]
        return ends[0][0]["ipAddress"], [len(end) for end in ends]


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("up", "status", "stop", "delete"))
    for name in ("name", "project", "zone", "type"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--reserved", action="store_true")
    parser.add_argument("--runtime", default="")
    parser.add_argument("--restarts", type=int, default=1000, help="at most")
    parser.add_argument("--poll_seconds", type=float, default=30)
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run none")
    return parse_with_job(parser)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(f"tpu_pod: {error}")
