"""Speed of a run's train step on this machine, on random packed rows: no cache, no corpus.

    python benchmarks/train_step.py --gin_file=gin/runs/nano_pretrain.gin [--gin.TrainConfig.…]

Prints one JSON object: compile seconds, seconds per step (median), slots/s, FLOPs per step as XLA counts them.
"""

import json
import platform
import statistics
import sys
import time

import jax
from packed_batch import random_batch

from bagpiper_jax import configuration, parallel
from bagpiper_jax.jobs import end_with
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import create_state
from bagpiper_jax.training.step import compile_step, make_train_step

STEPS = 10


def main() -> None:
    config = configuration.load(TrainConfig, sys.argv[1:])
    mesh = parallel.make_mesh(config.mesh)
    state = create_state(config, mesh)
    began = time.perf_counter()
    step = compile_step(make_train_step(config, mesh), config, mesh)
    compile_seconds = time.perf_counter() - began
    batch = jax.device_put(random_batch(config), parallel.batch_sharding(mesh))
    seconds = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[1:])
    print(json.dumps({
        "machine": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "parameters": sum(x.size for x in jax.tree.leaves(state.parameters)),
        "compile_seconds": round(compile_seconds, 1),
        "step_seconds": {f.__name__: round(f(seconds[1:]), 4) for f in (min, statistics.median, max)},
        "slots_per_second": round(config.batch.rows * config.batch.slots / median),
        "flops_per_step": (step.cost_analysis() or {}).get("flops"),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    end_with("train_step", main)
