"""Speed of saving and restoring a checkpoint, beside the disk's sequential read speed.

    python benchmarks/checkpoints.py --gin_file=gin/runs/nano_pretrain.gin [--gin.DecoderConfig.width=…]

Makes the run's state, with random moments (zeros would compress), saves it in a temporary directory under the working
directory, drops the files from memory, restores it, does so again in turns with and without its digests, and reads the
same files one after the other.
Prints one JSON object; `cpu_seconds` are those of all threads of this process.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from bagpiper_jax import configuration, digests, parallel
from bagpiper_jax.jobs import end_with
from bagpiper_jax.training.checkpoints import Checkpoints
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import abstract_state, create_state

BLOCK = 16 << 20
TURNS = 5


def random_state(config: TrainConfig, mesh):
    state, rng = create_state(config, mesh), np.random.default_rng(0)
    is_float = lambda x: x.ndim and x.dtype == np.float32  # noqa: E731
    fill = lambda x: jax.device_put(rng.random(x.shape, np.float32), x.sharding) if is_float(x) else x  # noqa: E731
    return jax.block_until_ready(jax.tree.map(fill, state))


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def drop_from_memory(root: Path) -> None:
    """So that the next read comes from the disk."""
    for path in files(root):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(root: Path) -> None:
    for path in files(root):
        with open(path, "rb", buffering=0) as file:
            while file.read(BLOCK):
                pass


def main() -> None:
    config = configuration.load(TrainConfig, sys.argv[1:])
    mesh = parallel.make_mesh(config.mesh)
    state = random_state(config, mesh)
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    with tempfile.TemporaryDirectory(dir=".") as directory, Checkpoints(directory) as checkpoints:
        seconds, cpu_seconds, root = {}, {}, Path(directory)

        def timed(name: str, function, *arguments):
            began, cpu_began = time.perf_counter(), time.process_time()
            result = function(*arguments)
            seconds[name], cpu_seconds[name] = time.perf_counter() - began, time.process_time() - cpu_began
            return result

        timed("save_blocking", checkpoints.save, state, {}, {})
        timed("save_in_background", checkpoints.wait)
        stored = sum(path.stat().st_size for path in files(root))
        like = abstract_state(config, mesh)
        digest_file = root / "0" / digests.FILE
        content = digest_file.read_bytes()

        def restore():
            return jax.block_until_ready(checkpoints.restore(0, like)[0])

        drop_from_memory(root)
        restored = timed("restore", restore)
        assert all(map(lambda a, b: bool((a == b).all()), jax.tree.leaves(state), jax.tree.leaves(restored)))
        del restored
        turns = {"with": [], "without": []}
        for turn in range(2 * TURNS):
            name = ("with", "without")[turn % 2]
            digest_file.unlink(missing_ok=True)
            if name == "with":
                digest_file.write_bytes(content)
            drop_from_memory(root)
            timed("turn", restore)
            turns[name].append(seconds.pop("turn"))
            cpu_seconds.pop("turn")
        drop_from_memory(root)
        timed("sequential_read", read_all, root)
    print(json.dumps({
        "state_mib": round(size / 2**20, 1),
        "stored_mib": round(stored / 2**20, 1),
        "seconds": {name: round(s, 3) for name, s in seconds.items()},
        "cpu_seconds": {name: round(s, 3) for name, s in cpu_seconds.items()},
        "restore_mib_per_second": round(size / 2**20 / seconds["restore"], 1),
        "disk_mib_per_second": round(stored / 2**20 / seconds["sequential_read"], 1),
        "restore_with_and_without_digests": {n: [round(t, 3) for t in sorted(ts)] for n, ts in turns.items()},
        "median_with_over_without": round(np.median(turns["with"]) / np.median(turns["without"]), 3),
        "restore_over_disk": round(seconds["sequential_read"] / seconds["restore"], 3),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    end_with("checkpoints", main)
