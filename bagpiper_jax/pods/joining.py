"""Joining the processes of a pod before the first JAX computation.

Who is in the pod is said by the environment: `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`
(launch/local_pod.py and launch/tpu_pod.py set them), or by GKE's variables for TPU slices. When a host is missing,
`jax.distributed` aborts every process and names none. So a roll is called first: the first process waits for all
others, and everybody learns who did not come.
"""

import logging
import os
from collections.abc import Mapping

import jax

from bagpiper_jax.pods.roll_call import MissingError, Place, PodError, call_roll

__all__ = ["MissingError", "PodError", "Place", "join_pod", "place_of"]

_log = logging.getLogger(__name__)

GKE_PORT = 8476


def join_pod(timeout_seconds: int = 300) -> None:
    """Joins `jax.distributed` when this process is one of several; does nothing otherwise.

    Raises:
        MissingError: processes did not come before the time-out; each is named.
        PodError: processes have other versions, or one number twice; each is named.
    """
    place = place_of(os.environ)
    if place is None:
        return
    call_roll(place, timeout_seconds, {"jax": jax.__version__})
    # All are there and alive, so this takes no time.
    jax.distributed.initialize(
        place.coordinator, place.count, place.index, initialization_timeout=timeout_seconds
    )
    _log.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())


def place_of(environment: Mapping[str, str]) -> Place | None:
    """This process's place; None if it is the only one. Raises PodError if the variables do not make sense."""
    if "JAX_NUM_PROCESSES" in environment:
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        address, count, index = (_variable(environment, name) for name in names)
        return Place(address, _number(names[1], count), _number(names[2], index))
    workers = tuple(environment.get("TPU_WORKER_HOSTNAMES", "").split(","))
    slices = _number("MEGASCALE_NUM_SLICES", environment.get("MEGASCALE_NUM_SLICES", "1"))
    if len(workers) * slices < 2:
        return None
    worker = _number("TPU_WORKER_ID", _variable(environment, "TPU_WORKER_ID"))
    part = _number("MEGASCALE_SLICE_ID", environment.get("MEGASCALE_SLICE_ID", "0"))
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS", workers[0]).split(":")[0]
    hosts = workers if slices == 1 else ()
    return Place(f"{first}:{GKE_PORT}", len(workers) * slices, part * len(workers) + worker, hosts)


def _variable(environment: Mapping[str, str], name: str) -> str:
    if name not in environment:
        raise PodError(f"{name} is not set, but other variables say that this process is one of several")
    return environment[name]


def _number(name: str, text: str) -> int:
    if not text.isdigit():
        raise PodError(f"{name} is {text!r}, which is no number")
    return int(text)
