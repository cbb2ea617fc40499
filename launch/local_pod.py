"""Runs a job as N real processes joined by jax.distributed on this machine.

    python launch/local_pod.py --processes 2 -- python -m bagpiper_jax train --gin_file=gin/runs/…

Every line of output carries its process's number. When one process ends with an error the others are stopped, and
the pod ends with that process's exit code. SIGTERM and SIGINT go to every process, as a preempted pod's would.
`--restarts=3` starts all again that often when they end with exit code 75, as launch/tpu_pod.py does.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from relay import Relay, say, shell_code, signals_to

EXIT_TRY_AGAIN = 75


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument(
        "--devices_per_process", type=int, default=1, help="virtual CPU devices of each process"
    )
    parser.add_argument("--restarts", type=int, default=0, help="at most, after exit code 75")
    parser.add_argument("--logs", type=Path, help="directory for the output of each process")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    flags = parser.parse_args()
    command = flags.command[1:] if flags.command[:1] == ["--"] else flags.command
    if not command or flags.processes < 1:
        parser.error("give --processes N (at least 1) and a command after --")
    for left in range(flags.restarts, -1, -1):
        code, asked_to_stop = run_pod(command, flags.processes, flags.devices_per_process, flags.logs)
        if code != EXIT_TRY_AGAIN or asked_to_stop or not left:
            return code
        say(f"exit code {code}: starting all processes again")


def run_pod(command: list[str], processes: int, devices: int, logs: Path | None = None) -> tuple[int, bool]:
    """Starts the pod and waits: the exit code of the process that failed first, or 0, and whether it was told to."""
    pod = Relay([command] * processes, _environments(processes, devices), logs)
    with signals_to(pod, signal.SIGTERM, signal.SIGINT) as received:
        pod.wait(grace=5)
    return shell_code(pod.first_failure or 0), bool(received)


def _environments(processes: int, devices: int) -> list[dict[str, str]]:
    shared = os.environ | {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{_free_ports()}",
        "JAX_NUM_PROCESSES": str(processes),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
    }
    return [shared | {"JAX_PROCESS_ID": str(index)} for index in range(processes)]


def _free_ports() -> int:
    """A free port whose successor, which the roll call takes, is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("localhost", port + 1))
                return port
            except (OSError, OverflowError):
                continue


if __name__ == "__main__":
    sys.exit(main())
