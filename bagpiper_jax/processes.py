"""Joining the processes of a pod before the first JAX computation."""

import logging
import os

import jax

_log = logging.getLogger(__name__)


def join_pod(timeout_seconds: int = 300) -> None:
    """Joins `jax.distributed` when this process is one of several; does nothing otherwise.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say so explicitly (launch/local_pod.py sets
    them); on a TPU pod JAX finds its peers itself.

    Raises:
        RuntimeError: the other processes did not come within the time-out.
    """
    if "JAX_NUM_PROCESSES" in os.environ:
        arguments = {
            "coordinator_address": os.environ["JAX_COORDINATOR_ADDRESS"],
            "num_processes": int(os.environ["JAX_NUM_PROCESSES"]),
            "process_id": int(os.environ["JAX_PROCESS_ID"]),
        }
    elif "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        arguments = {}
    else:
        return
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=timeout_seconds)
    except Exception as error:
        raise RuntimeError(
            f"the pod did not assemble within {timeout_seconds} s ({arguments or 'TPU metadata'}): {error}; "
            "check that every process was started and can reach the coordinator"
        ) from error
    _log.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
