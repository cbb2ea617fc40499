"""Starts a command on a pod's host, or comes back to it: the command outlives the connection that started it.

    python3 on_host.py install --name=NAME --commit=ID              the bundle beside this directory
    python3 on_host.py run --name=NAME --attempt=ID -- COMMAND …    its output, its exit code
    python3 on_host.py stop --name=NAME                             SIGTERM, and SIGKILL after two minutes

`install` never changes code under a job that runs: one of the same commit is left alone, one of another is a fault.
`run` starts the command unless it runs; then, and when this attempt has ended unseen, it comes back to it.

Standard library of Python 3.8 and newer only: it runs before anything is installed. A different command under the
name of one that runs is refused, so that two runs never share a host's chips.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path.home() / "bagpiper_runs"
DIRECTORY = Path(__file__).resolve().parent.parent
STOP_SECONDS = 120
EXIT_FAULT = 2
EXIT_OCCUPIED = 69  # EX_UNAVAILABLE


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("install", "run", "stop"))
    parser.add_argument("--name", required=True)
    parser.add_argument("--attempt", default="")
    parser.add_argument("--commit", default="")
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    flags, command = parser.parse_args(arguments[:cut]), arguments[cut + 1 :]
    place = ROOT / flags.name
    place.mkdir(parents=True, exist_ok=True)
    if flags.action == "stop":
        return stop(place)
    state = read(place)
    if flags.action == "install":
        return install(state, flags.commit)
    if alive(state) and state["command"] != command:
        print(
            f"{flags.name} runs something else here, process {state['pid']}; stop it first", file=sys.stderr
        )
        return EXIT_OCCUPIED
    if alive(state):
        replace(place / "state", json.dumps({**state, "attempt": flags.attempt}))
    elif not state or state["attempt"] != flags.attempt:
        start(place, command, flags.attempt)
        return follow(place, 0)
    return follow(place, max(0, (place / "log").stat().st_size - 2000))


def install(state, commit):
    """Puts the bundle's files in the place of those that an earlier bundle brought, and prepares the host."""
    mark, listed = DIRECTORY / ".installed_commit", DIRECTORY / ".installed_files"
    here = mark.read_text() if mark.exists() else "unknown"
    if alive(state) and here == commit:
        return 0
    if alive(state):
        print(
            f"a job runs with the code of commit {here[:12]}, and {commit[:12]} is to be installed: `stop` ends the "
            f"job; `up` from {here[:12]} comes back to it",
            file=sys.stderr,
        )
        return EXIT_OCCUPIED
    if mark.exists():
        mark.unlink()  # an installation that is killed is none
    for name in listed.read_text().splitlines() if listed.exists() else ():
        if not name.endswith("/") and (DIRECTORY / name).exists():
            (DIRECTORY / name).unlink()
    bundle = DIRECTORY.with_name(DIRECTORY.name + ".tar.gz")
    names = subprocess.run(["tar", "-tzf", str(bundle)], check=True, stdout=subprocess.PIPE).stdout
    listed.write_bytes(names)
    subprocess.run(["tar", "-xzf", str(bundle), "-C", str(DIRECTORY)], check=True)
    code = subprocess.run(["bash", str(DIRECTORY / "launch" / "host_setup.sh"), "tpu"]).returncode
    if code == 0:
        replace(mark, commit)
    return code


def start(place, command, attempt):
    """Starts the command behind a keeper that outlives this process and writes down how the command ended."""
    (place / "exit_code").unlink(missing_ok=True)
    (place / "state").unlink(missing_ok=True)
    (place / "log").write_bytes(b"")
    if os.fork() == 0:
        os.setsid()  # a connection that breaks sends its signal to the session it leaves behind
        keep(place, command, attempt)
        os._exit(0)
    while not (place / "state").exists():
        time.sleep(0.01)


def keep(place, command, attempt):
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    with open(place / "log", "ab") as log:
        try:
            process = subprocess.Popen(command, stdin=nothing, stdout=log, stderr=subprocess.STDOUT)
        except OSError as error:
            log.write(f"cannot start {command[0]}: {error}\n".encode())
            replace(place / "exit_code", str(EXIT_FAULT))
            replace(place / "state", json.dumps({"pid": os.getpid(), "command": command, "attempt": attempt}))
            return
        replace(place / "state", json.dumps({"pid": process.pid, "command": command, "attempt": attempt}))
        code = process.wait()
    replace(place / "exit_code", str(code if code >= 0 else 128 - code))


def follow(place, position):
    """Prints the log as it grows, until the command has ended; returns its exit code."""
    with open(place / "log", "rb") as log:
        log.seek(position)
        while True:
            ended = (place / "exit_code").exists()
            for line in iter(lambda: log.read(65536), b""):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            if ended:
                return int((place / "exit_code").read_text())
            if not alive(read(place)) and not (place / "exit_code").exists():
                time.sleep(1)  # the keeper is about to write it, or was killed with its command
                if not (place / "exit_code").exists():
                    return 128 + signal.SIGKILL
            time.sleep(0.2)


def stop(place):
    state = read(place)
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 10)):
        if alive(state):
            os.kill(state["pid"], number)
        deadline = time.monotonic() + seconds
        while alive(state) and time.monotonic() < deadline:
            time.sleep(0.1)
    return 1 if alive(state) else 0


def read(place):
    try:
        return json.loads((place / "state").read_text())
    except (OSError, ValueError):
        return None


def alive(state):
    """Whether the command runs: its process exists and is no other one that got its number."""
    if not state:
        return False
    try:
        with open(f"/proc/{state['pid']}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except OSError:
        return False
    return os.fsencode(state["command"][-1]) in arguments


def replace(path, text):
    path.with_suffix(".tmp").write_text(text)
    os.replace(path.with_suffix(".tmp"), path)


if __name__ == "__main__":
    sys.exit(main())
