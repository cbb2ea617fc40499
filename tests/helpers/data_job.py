"""Reads batches as one process of a pod, and no model: `data_job.py LOCK OUTPUT ROWS STEPS THREADS KILL_AT`.

Continues from the newest checkpoint in OUTPUT, notes a checksum per row of the run, saves its position every other
step, and kills itself before step KILL_AT.
"""

import json
import os
import signal
import sys
import zlib
from pathlib import Path


def main(lock: str, output: str, rows: int, steps: int, threads: int, kill_at: int) -> None:
    import jax
    import orbax.checkpoint as ocp
    from synthetic_cache import VOCABULARY

    from bagpiper_jax import parallel
    from bagpiper_jax.batch import BatchShape
    from bagpiper_jax.data.loader import Loader, LoaderConfig
    from bagpiper_jax.parallel import MeshConfig
    from bagpiper_jax.pods.joining import join_pod

    join_pod()
    share, shares = parallel.process_share(parallel.make_mesh(MeshConfig()))
    loader = Loader(
        lock,
        BatchShape(rows, 256, 8),
        VOCABULARY,
        LoaderConfig(window=64),
        process_index=share,
        process_count=shares,
    )
    manager = ocp.CheckpointManager(
        Path(output) / "checkpoints", options=ocp.CheckpointManagerOptions(max_to_keep=2)
    )
    start = 0
    if manager.latest_step() is not None:
        kept = manager.restore(manager.latest_step(), args=ocp.args.Composite(data=ocp.args.JsonRestore()))
        start = loader.check(kept.data)
    with open(Path(output) / f"rows-{jax.process_index()}.jsonl", "a", encoding="utf-8") as notes:
        for step, batch in enumerate(loader.iterate(start, threads=threads), start):
            if step == steps:
                break
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            first = loader.first_row(step) + share * rows // shares
            notes.write(json.dumps({"step": step, "first": first, "rows": checksums(batch)}) + "\n")
            notes.flush()
            if (step + 1) % 2 == 0:
                position = ocp.args.JsonSave(loader.state(step + 1))
                manager.save(step + 1, args=ocp.args.Composite(data=position))
    manager.wait_until_finished()
    manager.close()


def checksums(batch) -> list[int]:
    """One per row, over every array of the batch."""
    import jax

    leaves = jax.tree.leaves(batch)
    found = []
    for row in range(len(leaves[0])):
        value = 0
        for leaf in leaves:
            value = zlib.crc32(leaf[row].tobytes(), value)
        found.append(value)
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
