"""Speed of a run's train step on this machine, on random packed rows: no cache, no corpus.

    python benchmarks/train_step.py --gin_file=gin/runs/nano_pretrain.gin [--gin.TrainConfig.…]

Prints one JSON object: compile seconds, seconds per step (median), slots/s, FLOPs per step as XLA counts them.
"""

import dataclasses
import json
import platform
import statistics
import sys
import time

import jax
import numpy as np

from bagpiper_jax import configuration, parallel
from bagpiper_jax.data.batch import Batch
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.state import create_state
from bagpiper_jax.training.step import batch_shapes, compile_step, make_train_step
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT

DOCUMENT_SLOTS = 128
STEPS = 10


def random_batch(config: TrainConfig) -> Batch:
    """Documents of 128 slots, half text, half codec frames; every audio chunk full and heard."""
    vocabulary, rng = config.model.vocabulary, np.random.default_rng(0)
    empty = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), batch_shapes(config.batch, vocabulary.num_streams)
    )
    rows, slots = empty.segment_ids.shape
    place = np.arange(slots) % DOCUMENT_SLOTS
    is_codec = np.tile(place >= DOCUMENT_SLOTS // 2, (rows, 1))
    tokens = empty.tokens.copy()
    tokens[..., 0] = rng.integers(vocabulary.text_start, vocabulary.codec_start, (rows, slots))
    codes = rng.integers(0, vocabulary.codebook_size, (is_codec.sum(), vocabulary.num_streams))
    tokens[is_codec] = vocabulary.codes_to_ids(codes)
    weights = np.where(tokens >= vocabulary.codec_start, CODEC_CLASS_WEIGHT, tokens > 0).astype(np.float32)
    return dataclasses.replace(
        empty,
        tokens=tokens,
        loss_weights=weights,
        segment_ids=np.tile(np.arange(slots) // DOCUMENT_SLOTS + 1, (rows, 1)).astype(np.int32),
        positions=np.tile(place, (rows, 1)).astype(np.int32),
        mel=rng.standard_normal(empty.mel.shape).astype(np.float32),
        chunk_frames=np.full_like(empty.chunk_frames, 100),
        chunk_clip=np.ones_like(empty.chunk_clip),
        chunk_window=np.ones_like(empty.chunk_window),
        audio_slot=np.full_like(empty.audio_slot, -1),
    )


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
    configuration.run_job(main)
