"""The roll call of a pod: who is missing is named to everybody who came, before jax.distributed aborts them all."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from bagpiper_jax.pods.joining import Place, PodError, place_of
from bagpiper_jax.pods.roll_call import call_roll


def free_address():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return f"localhost:{listener.getsockname()[1]}"


def roll(places, timeout=2.0, versions=None):
    """The fault that each process is told of, "" if none."""
    told = {}

    def call(number, place):
        try:
            call_roll(place, timeout, (versions or {}).get(number, {"jax": "1"}))
            told[number] = ""
        except PodError as error:
            told[number] = str(error)

    threads = [threading.Thread(target=call, args=item) for item in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_all_come():
    address = free_address()
    assert roll([Place(address, 5, i) for i in range(5)], timeout=20) == dict.fromkeys(range(5), "")


def test_the_missing_are_named_to_everybody():
    address, hosts = free_address(), ("h0", "h1", "h2", "h3")
    told = roll([Place(address, 4, i, hosts) for i in (0, 2)])
    assert set(told.values()) == {told[0]}
    assert told[0].startswith(
        "2 of 4 processes did not come within 2 s: process 1 (h1), 3 (h3). There are 0 ("
    )


def test_without_the_first_process_the_others_say_so():
    told = roll([Place(free_address(), 2, 1)], timeout=1)
    assert "process 1 (" in told[0] and "could not reach process 0 at localhost:" in told[0]


def test_other_versions_are_named():
    address = free_address()
    told = roll([Place(address, 2, i) for i in range(2)], 20, {1: {"jax": "2"}})
    assert "process 1 (" in told[0] and "jax 2" in told[0] and told[0] == told[1]


def test_two_processes_with_one_number_are_named(monkeypatch):
    address, pids = free_address(), iter((7, 8, 9))
    monkeypatch.setattr("bagpiper_jax.pods.roll_call.os.getpid", lambda: next(pids, 10))
    told = roll([Place(address, 3, 0), Place(address, 3, 1), Place(address, 3, 1)])
    assert told[0].startswith("two processes have number 1: process ")


def test_strangers_at_the_door_do_no_harm():
    address = free_address()
    host, _, port = address.partition(":")

    def knock():
        for message in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"process": 1}\n', b""):
            for _ in range(200):
                try:
                    with socket.create_connection((host, int(port) + 1)) as line:
                        line.sendall(message)
                    break
                except OSError:
                    threading.Event().wait(0.01)

    stranger = threading.Thread(target=knock)
    stranger.start()
    told = roll([Place(address, 2, 0)], timeout=3)
    stranger.join()
    assert "process 1. There are 0 (" in told[0]


def test_real_processes_end_with_the_name_of_the_missing_one():
    """Two of three processes of a real pod; the message reaches both, and neither hangs or aborts."""
    code = (
        "import bagpiper_jax.pods.joining as p\n"
        "try: p.join_pod(3)\n"
        "except p.PodError as e: raise SystemExit(f'fault: {e}')"
    )
    shared = os.environ | {"JAX_COORDINATOR_ADDRESS": free_address(), "JAX_NUM_PROCESSES": "3"}
    pod = [
        subprocess.Popen([sys.executable, "-c", code], env=shared | {"JAX_PROCESS_ID": str(i)}, stderr=subprocess.PIPE,
                         text=True)
        for i in (0, 2)
    ]  # fmt: skip
    for process in pod:
        err = process.communicate(timeout=120)[1]
        assert process.returncode == 1 and "fault: " in err, err
        # A machine under load may bring one too late to hear it from process 0.
        assert (
            "process 1. There are 0 (" in err or "process 1, 2" in err or "could not reach process 0" in err
        ), err


@pytest.mark.parametrize(
    "environment, place",
    [
        ({}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        (
            {"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"},
            Place("h:1", 4, 3),
        ),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, Place("a:8476", 2, 1, ("a", "b"))),
        (
            {"TPU_WORKER_HOSTNAMES": "c,d", "TPU_WORKER_ID": "1", "MEGASCALE_NUM_SLICES": "2",
             "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "a:8080"},
            Place("a:8476", 4, 3),
        ),
    ],
)  # fmt: skip
def test_places(environment, place):
    assert place_of(environment) == place


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"JAX_NUM_PROCESSES": "4"}, "JAX_COORDINATOR_ADDRESS is not set"),
        ({"JAX_COORDINATOR_ADDRESS": "h", "JAX_NUM_PROCESSES": "x", "JAX_PROCESS_ID": "0"}, "'x', which is no n"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU_WORKER_ID is not set"),
    ],
)  # fmt: skip
def test_variables_that_make_no_sense(environment, message):
    with pytest.raises(PodError, match=message):
        place_of(environment)
