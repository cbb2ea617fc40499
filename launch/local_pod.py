"""Runs a job as N real processes joined by jax.distributed on this machine.

    python launch/local_pod.py --processes 2 -- python -m bagpiper_jax.train --gin_file=gin/runs/…

Every line of output carries its process's number. When one process ends with an error the others are stopped, and
the pod ends with that process's exit code. SIGTERM and SIGINT go to every process, as a preempted pod's would.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading

GRACE_SECONDS = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument(
        "--devices_per_process", type=int, default=1, help="virtual CPU devices of each process"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    flags = parser.parse_args()
    command = flags.command[1:] if flags.command[:1] == ["--"] else flags.command
    if not command or flags.processes < 1:
        parser.error("give --processes N (at least 1) and a command after --")
    return run_pod(command, flags.processes, flags.devices_per_process)


def run_pod(command: list[str], processes: int, devices_per_process: int) -> int:
    """Starts the pod and waits; returns the exit code of the first process that failed, or 0."""
    address = f"localhost:{_free_port()}"
    pod = [_start(command, address, processes, index, devices_per_process) for index in range(processes)]
    relays = [threading.Thread(target=_relay, args=(index, p)) for index, p in enumerate(pod)]
    for relay in relays:
        relay.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: [p.send_signal(received) for p in pod if p.poll() is None])
    code = _wait(pod)
    for relay in relays:
        relay.join()
    return code


def _start(command, address, processes, index, devices) -> subprocess.Popen:
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def _relay(index: int, process: subprocess.Popen) -> None:
    for line in process.stdout:
        print(f"[{index}] {line}", end="", flush=True)


def _wait(pod: list[subprocess.Popen]) -> int:
    """Waits for all; the first failure stops the rest, politely at first."""
    ended = threading.Semaphore(0)
    for process in pod:
        threading.Thread(target=lambda p=process: (p.wait(), ended.release()), daemon=True).start()
    first_failure = 0
    for _ in pod:
        ended.acquire()
        failed = [p.returncode for p in pod if p.returncode not in (None, 0)]
        if failed and not first_failure:
            first_failure = failed[0]
            _stop([p for p in pod if p.poll() is None])
    return first_failure if first_failure >= 0 else 128 - first_failure


def _stop(running: list[subprocess.Popen]) -> None:
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
