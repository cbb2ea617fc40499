"""The roll call of a pod: who is there, who is missing, and whether all run the same versions. Plain sockets."""

import dataclasses
import json
import os
import platform
import selectors
import socket
import time
import typing
from collections.abc import Mapping

from bagpiper_jax.errors import EXIT_TRY_AGAIN, Explained

_LONGEST_LINE = 65536
_FIELDS = {True: {"fault", "missing"}, False: {"process", "count", "host", "pid", "versions"}}


class PodError(Explained):
    """The pod cannot be assembled; the message names the processes at fault."""


class MissingError(PodError):
    """Processes did not come in time. They may the next time."""

    exit_code = EXIT_TRY_AGAIN


@dataclasses.dataclass(frozen=True)
class Place:
    """Which process of a pod this is.

    Attributes:
        coordinator: host:port of the first process. The port after it is used for the roll call.
        count, index: the number of processes, and this one's number.
        hosts: host of each process where the environment names them, else ().
    """

    coordinator: str
    count: int
    index: int
    hosts: tuple[str, ...] = ()


def call_roll(place: Place, timeout_seconds: float, versions: Mapping[str, str]) -> None:
    """Returns in every process once all of them have come.

    Args:
        place: the place of this process.
        timeout_seconds: the time after which those who came are told who did not.
        versions: the versions that must be equal everywhere.

    Raises:
        PodError: somebody is missing, two processes have one number, or versions differ.
    """
    host, _, port = place.coordinator.rpartition(":")
    me = {"process": place.index, "count": place.count, "host": socket.gethostname(), "pid": os.getpid(),
          "versions": {"python": platform.python_version(), **versions}}  # fmt: skip
    deadline = time.monotonic() + timeout_seconds
    if place.index == 0:
        result = _preside(place, int(port) + 1, me, deadline, timeout_seconds)
    else:
        result = _answer(place, (host, int(port) + 1), me, deadline, timeout_seconds)
    if result["fault"]:
        raise (MissingError if result["missing"] else PodError)(result["fault"])


def _preside(place: Place, port: int, me: dict, deadline: float, timeout: float) -> dict:
    """The first process: collects the others' names, and tells them the result, which it returns."""
    present, twice = {0: me}, []
    open_lines: list[socket.socket] = []
    with socket.create_server(("", port), backlog=1024) as server, selectors.DefaultSelector() as waiting:
        waiting.register(server, selectors.EVENT_READ)
        while len(present) < place.count and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                if key.fileobj is server:
                    waiting.register(server.accept()[0], selectors.EVENT_READ)
                    continue
                line = typing.cast(socket.socket, key.fileobj)
                waiting.unregister(line)
                open_lines.append(line)
                other = _receive(line)
                if other and not _same(other, present.setdefault(other["process"], other)):
                    twice.append(other)
        result = _result(place, present, twice, timeout)
        for line in open_lines:
            _send(line, result)
            line.close()
    return result


def _answer(place: Place, address: tuple[str, int], me: dict, deadline: float, timeout: float) -> dict:
    """Any other process: says that it is there, and waits for the result."""
    while True:
        try:
            with socket.create_connection(address, timeout=max(1.0, deadline - time.monotonic())) as line:
                _send(line, me)
                line.settimeout(max(1.0, deadline - time.monotonic()) + 5)
                result = _receive(line)
            if result:
                return result
            reason = "it hung up"
        except OSError as error:
            reason = str(error)
        if time.monotonic() >= deadline:
            fault = (
                f"process {place.index} ({me['host']}) could not reach process 0 at {address[0]}:{address[1]} within "
                f"{timeout:g} s: {reason}. Is process 0 running there, and does the firewall let this port and the "
                "one before it through?"
            )
            return {"fault": fault, "missing": [0]}
        time.sleep(min(0.5, timeout / 10))


def _result(place: Place, present: dict[int, dict], twice: list[dict], timeout: float) -> dict:
    missing = [index for index in range(place.count) if index not in present]
    if twice:
        fault = _twice(twice[0], present[twice[0]["process"]])
    elif missing:
        fault = _missing(place, present, missing, timeout)
    else:
        fault = _different(place, present)
    return {"fault": fault, "missing": missing}


def _twice(one: dict, other: dict) -> str:
    places = [f"process {x['pid']} on {x['host']}" for x in (one, other)]
    return f"two processes have number {one['process']}: {' and '.join(places)}. Is an older run still alive?"


def _missing(place: Place, present: dict[int, dict], missing: list[int], timeout: float) -> str:
    names = [f"{i} ({place.hosts[i]})" if i < len(place.hosts) else str(i) for i in missing]
    came = ", ".join(f"{i} ({present[i]['host']})" for i in sorted(present))
    return (
        f"{len(missing)} of {place.count} processes did not come within {timeout:g} s: process {', '.join(names)}. "
        f"There are {came}. Look at the logs of the missing ones, then start all again"
    )


def _different(place: Place, present: dict[int, dict]) -> str:
    wrong = [
        f"process {i} ({other['host']}): {_shown(other)}"
        for i, other in sorted(present.items())
        if (other["count"], other["versions"]) != (place.count, present[0]["versions"])
    ]
    if not wrong:
        return ""
    return (
        f"the processes differ: process 0 has {_shown(present[0])}, but {'; '.join(wrong)}. Install the same"
    )


def _same(one: dict, other: dict) -> bool:
    return (one["host"], one["pid"]) == (other["host"], other["pid"])


def _shown(process: dict) -> str:
    return ", ".join([f"{process['count']} processes", *(f"{k} {v}" for k, v in process["versions"].items())])


def _send(line: socket.socket, message: dict) -> None:
    try:
        line.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # who hung up calls again, or is missing


def _receive(line: socket.socket) -> dict | None:
    """One message; None if the other side hung up, or is no process of ours."""
    line.settimeout(5) if line.gettimeout() is None else None
    try:
        with line.makefile("rb") as file:
            message = json.loads(file.readline(_LONGEST_LINE))
        return (
            message if isinstance(message, dict) and _FIELDS["fault" in message] <= message.keys() else None
        )
    except (OSError, ValueError):
        return None
