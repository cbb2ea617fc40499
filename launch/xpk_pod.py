"""A job on a GKE cluster with TPU slices, through XPK (JobSet and Kueue).

    python launch/xpk_pod.py up --name=JOB --cluster=C --project=P --zone=Z --type=v5p-128 --image=IMAGE -- train …
    python launch/xpk_pod.py status|logs|delete --name=JOB --cluster=C --project=P --zone=Z
    python launch/xpk_pod.py create_cluster|delete_cluster --cluster=C --project=P --zone=Z --type=v5p-128

JobSet starts all hosts again, on other machines if need be, after exit code 75 and after what kills a process
(127 to 255), `--restarts` times. `--dry_run` prints every command instead of running it. The image is that of
launch/image/Dockerfile; without one, every host copies this folder and installs it, at every start.
"""

import argparse
import dataclasses
import shlex
import subprocess
import sys

import preflight
from commands import EXIT_FAULT, EXIT_TRY_AGAIN, Commands, check_files, parse_with_job
from gcloud import Pod, PodError
from relay import say

GRACE_SECONDS = 300
"""Between SIGTERM and SIGKILL: time for the save of a checkpoint."""


_BASE = "python:3.12"


@dataclasses.dataclass(frozen=True)
class Workload:
    """A job on a cluster; `pod` says on what, and names the job.

    Attributes:
        image: has the package and its environment; "" adds this folder to `_BASE` and installs it when a host starts.
    """

    pod: Pod
    cluster: str
    image: str = ""


def _where(work: Workload) -> list[str]:
    return [f"--cluster={work.cluster}", f"--project={work.pod.project}", f"--zone={work.pod.zone}"]


def _size(work: Workload) -> list[str]:
    return [f"--tpu-type={work.pod.type}", f"--num-slices={work.pod.slices}"]


def create_cluster(work: Workload) -> list[str]:
    capacity = "--spot" if work.pod.spot else "--on-demand"
    return ["xpk", "cluster", "create", *_where(work), *_size(work), capacity]


def delete_cluster(work: Workload) -> list[str]:
    return ["xpk", "cluster", "delete", *_where(work), "--force"]


def up(work: Workload, job: list[str], restarts: int) -> list[str]:
    setup, python = "bash launch/host_setup.sh tpu && ", ".venv/bin/python"
    if work.image:
        setup, python = "", "python"
    # exec, so that the job itself gets the SIGTERM of a preemption.
    command = f"{setup}exec {shlex.join([python, '-m', *job])}"
    image = (
        ["--docker-image=" + work.image] if work.image else ["--base-docker-image=" + _BASE, "--script-dir=."]
    )
    return [
        "xpk", "workload", "create", f"--workload={work.pod.name}", *_where(work), *_size(work), *image,
        f"--max-restarts={restarts}", f"--restart-on-exit-codes={EXIT_TRY_AGAIN}",
        f"--termination-grace-period-seconds={GRACE_SECONDS}", f"--command={command}",
    ]  # fmt: skip


def status(work: Workload) -> list[str]:
    return ["xpk", "workload", "list", *_where(work), f"--filter-by-job=^{work.pod.name}$"]


def logs(work: Workload) -> list[str]:
    selector = f"jobset.sigs.k8s.io/jobset-name={work.pod.name}"
    most = f"--max-log-requests={work.pod.hosts * work.pod.slices}"
    return [
        "kubectl",
        "logs",
        f"--selector={selector}",
        "--all-containers",
        "--prefix",
        "--follow",
        "--tail=-1",
        most,
    ]


def delete(work: Workload) -> list[str]:
    return ["xpk", "workload", "delete", f"--workload={work.pod.name}", *_where(work), "--force"]


def main() -> int:
    try:
        flags = _flags()
        pod = Pod(flags.name, flags.project, flags.zone, flags.type, flags.slices, flags.spot)
        work = Workload(pod, flags.cluster, flags.image)
        if flags.action == "up" and not work.image:
            check_files(
                flags.job, preflight.of_folder, "this folder, which is copied to the pod", flags.dry_run
            )
        command = (
            up(work, flags.job, flags.restarts) if flags.action == "up" else globals()[flags.action](work)
        )
        commands = Commands(flags.dry_run)
        if flags.action == "logs" and not flags.dry_run:  # they come as long as the job runs
            return subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        print(commands.run(command, flags.action.replace("_", " ")), end="")
    except (PodError, FileNotFoundError) as error:
        print(f"xpk_pod: {error}", file=sys.stderr)
        return EXIT_FAULT
    except KeyboardInterrupt:
        say("detached; the job goes on")
        return 130
    return 0


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    actions = ("up", "status", "logs", "delete", "create_cluster", "delete_cluster")
    parser.add_argument("action", choices=actions)
    for name in ("cluster", "project", "zone"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--name", default="bagpiper")
    parser.add_argument("--type", default="v5p-128")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--spot", action="store_true")
    parser.add_argument(
        "--image", default="", help="has the package: see launch/image/Dockerfile; default: install at start"
    )
    parser.add_argument("--restarts", type=int, default=1000, help="at most")
    parser.add_argument("--dry_run", action="store_true", help="print the command, run none")
    return parse_with_job(parser)


if __name__ == "__main__":
    sys.exit(main())
