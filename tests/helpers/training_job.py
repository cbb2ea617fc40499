"""A training run on synthetic batches, as one process or as one of a pod: `training_job.py OUTPUT [KEY=VALUE …]`.

Keys are fields of TrainConfig and WatchConfig with JSON values, or a fault of one process's data, [process, batch]:
`stalls` (no batch comes any more), `breaks` (an exception), `slow` (every batch from there on takes half a second),
`fills` (from there on no file grows beyond `FULL` bytes, as on a full disk).
"""

import dataclasses
import json
import logging
import os
import resource
import sys
import time
import zlib
from pathlib import Path

FULL = 20_000
FAULTS = ("stalls", "breaks", "slow", "fills")


def strike(kind: str) -> None:
    from bagpiper_jax.training import checkpoints

    if kind == "breaks":
        raise OSError("the disk of this host is gone")
    if kind == "fills":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
        checkpoints.RETRY_SECONDS = (0.1,)
    else:
        time.sleep(1e6 if kind == "stalls" else 0.5)


def main(output: str, *bindings: str) -> int:
    import jax
    from training_helpers import CONFIG, SyntheticLoader

    from bagpiper_jax import parallel
    from bagpiper_jax.errors import EXIT_TRY_AGAIN
    from bagpiper_jax.parallel import MeshConfig
    from bagpiper_jax.pods.joining import join_pod
    from bagpiper_jax.runs import faults
    from bagpiper_jax.runs.heartbeat import WatchConfig
    from bagpiper_jax.runs.ledger import Ledger
    from bagpiper_jax.training.loop import train

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    settings = {name: json.loads(value) for name, value in (b.split("=", 1) for b in bindings)}
    fault = {name: settings.pop(name) for name in FAULTS if name in settings}
    watch = {f.name: settings.pop(f.name) for f in dataclasses.fields(WatchConfig) if f.name in settings}
    settings = {"log_every": 1, "save_every": 2, "validate_every": 0, **settings}
    ledger = Ledger()
    join_pod(60)
    mesh = MeshConfig(fsdp=jax.device_count())
    config = dataclasses.replace(CONFIG, output=output, watch=WatchConfig(**watch), mesh=mesh, **settings)
    share, shares = parallel.process_share(parallel.make_mesh(mesh))

    class Watched(SyntheticLoader):
        """Notes every batch that training asks for, and has the fault if it is this process's."""

        def iterate(self, start_step):
            for step, batch in enumerate(super().iterate(start_step), start_step):
                # In one call: `print` writes the line's end in another, and a log line may come between.
                os.write(1, f"BATCH {step} {zlib.crc32(batch.tokens.tobytes())}\n".encode())
                for kind, (process, first) in fault.items():
                    if process == jax.process_index() and step >= first:
                        strike(kind)
                yield batch

    with faults.reported(Path(output), ledger):
        done = train(config, Watched(process_index=share, process_count=shares), ledger=ledger)
    return 0 if done else EXIT_TRY_AGAIN


if __name__ == "__main__":
    from bagpiper_jax import jobs

    jobs.end_with("train", lambda: main(*sys.argv[1:]), at_once=True)
