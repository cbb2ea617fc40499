"""Planning and exporting, for benchmarks/data.py."""

import collections
import dataclasses
import functools
import logging
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from unittest import mock

import numpy as np
from data_made import CHUNKS, HEARING, SLOTS, make_corpus, task_lengths, time_writing

from bagpiper_jax.data.lengths import TaskLengths
from bagpiper_jax.data.mixture import Mixture
from bagpiper_jax.data.planner import Plan

RECORDS, SOURCES, TOKENS = 422_000_000, 157, 600_000_000_000
APPETITE = 2700  # examples a second of a v6e-256 at 50 % of its peak, 8B parameters
_WINDOWS = 60


def packing(locks: list[str]) -> dict:
    """Share of slots that hold examples, over 60 windows of varied lengths and one epoch of each lock."""
    rng = np.random.default_rng(0)
    varied = [task_lengths(kind, kind, 1.0, rng, 50_000) for kind in HEARING]
    found = {"varied": _efficiency(Plan(varied, SLOTS, CHUNKS, 0, "tokens"), _WINDOWS)}
    for path in locks:
        mixture = Mixture.open(path, "train")
        lock, tasks = mixture.lock, mixture.lengths()
        plan = Plan(tasks, SLOTS, max(CHUNKS, 512), 0, lock.rate_unit)
        epoch = max(len(task) / share for task, share in zip(tasks, plan.shares, strict=True))
        found[lock.mixture] = _efficiency(plan, max(1, round(epoch / plan.window_size)))
    return {"slots": SLOTS, **found}


def _efficiency(plan: Plan, windows: int) -> float:
    used = rows = 0
    for window in range(windows):
        examples, ends = plan.packed(window)
        used, rows = used + int(examples.length.sum()), rows + len(ends)
    return round(used / (rows * plan.slots), 4)


def big_plan(directory: Path) -> Plan:
    """422M records in 157 sources, the largest 5,000 times the smallest; columns of lengths mapped from disk."""
    sizes = np.arange(1, SOURCES + 1) ** -1.7
    sizes = (sizes / sizes.sum() * RECORDS).astype(int)
    directory.mkdir(parents=True, exist_ok=True)
    rates = np.sqrt(sizes)  # temperature 2
    tasks = [
        _big_task(directory, HEARING[i % 3], f"source{i:03d}", rate, int(size))
        for i, (size, rate) in enumerate(zip(sizes, rates, strict=True))
    ]
    return Plan(tasks, SLOTS, CHUNKS, 0, "tokens")


def _big_task(directory: Path, kind: str, name: str, rate: float, records: int) -> TaskLengths:
    columns = {}
    for column in ("length", "chunks"):
        path = directory / f"{name}_{column}.npy"
        if not path.exists():
            block = getattr(_block(kind), column)
            made = np.lib.format.open_memmap(path, mode="w+", dtype=block.dtype, shape=(records,))
            for begin in range(0, records, len(block)):
                made[begin : begin + len(block)] = block[: records - begin]
        columns[column] = np.asarray(np.load(path, mmap_mode="r"))
    block = _block(kind)
    largest = int(block.length.max()), int(block.chunks.max())
    direction = np.broadcast_to(np.uint8(0), records)
    return TaskLengths(
        name, rate, columns["length"], columns["chunks"], direction, largest, float(block.length.mean())
    )


@functools.cache
def _block(kind: str) -> TaskLengths:
    return task_lengths(kind, kind, 1.0, np.random.default_rng(HEARING.index(kind)), 200_000)


def plan_speed(directory: Path) -> dict:
    """How fast windows anywhere in the run are planned, and in how much memory."""
    big_plan(directory)  # makes the columns
    before = _memory()
    began = time.perf_counter()
    plan = big_plan(directory)
    opened = time.perf_counter() - began
    began, count, used, rows = time.process_time(), 0, 0, 0
    for window in np.random.default_rng(0).integers(0, 40_000, _WINDOWS).tolist():
        examples, ends = plan.packed(window)
        count, used, rows = count + len(examples), used + int(examples.length.sum()), rows + len(ends)
    seconds = time.process_time() - began
    after = _memory()
    return {
        "records": sum(map(len, plan.tasks)),
        "sources": len(plan.tasks),
        "largest_to_smallest": round(len(plan.tasks[0]) / len(plan.tasks[-1])),
        "open_seconds": round(opened, 3),
        "examples_per_cpu_second": round(count / seconds),
        "share_of_a_core_at_2700": round(APPETITE * seconds / count, 5),
        "packing_efficiency": round(used / (rows * SLOTS), 4),
        "index_gib_on_disk": round(sum(t.length.nbytes + t.chunks.nbytes for t in plan.tasks) / 2**30, 3),
        "index_gib_touched": round((after["RssFile"] - before["RssFile"]) / 2**20, 3),
        "own_memory_grown_mib": round((after["RssAnon"] - before["RssAnon"]) / 2**10, 1),
    }


def _memory() -> dict[str, int]:
    """KiB that this process has in memory: mapped files, and its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines) if "Rss" in name
    }


def whole_run(directory: Path, workers: int) -> dict:
    """Packs every window of 600B tokens and counts the slots of every row."""
    plan = big_plan(directory)
    mean = sum(share * usable.mean_length for share, usable in zip(plan.shares, plan.usable, strict=True))
    windows = int(TOKENS / mean / plan.window_size) + 1
    blocks = [range(begin, min(begin + 500, windows)) for begin in range(0, windows, 500)]
    began, cpu = time.perf_counter(), time.process_time()
    total, rows, histogram = np.zeros(len(plan.tasks)), 0, collections.Counter()
    with multiprocessing.get_context("fork").Pool(workers, _inherit, (plan,)) as pool:
        for tokens, filled in pool.imap_unordered(_count, blocks):
            total, rows = total + tokens, rows + int(filled.sum())
            histogram.update(dict(enumerate(filled.tolist())))
    cpu = time.process_time() - cpu + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    asked = np.asarray([task.rate for task in plan.tasks])
    error = np.abs(total / total.sum() / (asked / asked.sum()) - 1)
    epochs = np.asarray(plan.consumed(windows)) / [len(task) for task in plan.tasks]
    return {
        "tokens": int(total.sum()), "rows": rows, "windows": windows,
        "packing_efficiency": round(total.sum() / (rows * SLOTS), 5),
        "rows_below_95_percent": sum(n for slots, n in histogram.items() if slots < 0.95 * SLOTS) / rows,
        "largest_relative_error_of_a_token_share": float(error.max()),
        "epochs_least_and_most": [round(float(epochs.min()), 3), round(float(epochs.max()), 1)],
        "wall_seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(cpu, 1),
    }  # fmt: skip


_inherited: list[Plan] = []  # forked workers have the plan already; it cannot be sent


def _inherit(plan: Plan) -> None:
    _inherited.append(plan)


def _count(windows: range) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each task, and how many rows hold 0, 1, … slots, over some windows."""
    (plan,) = _inherited
    tokens, filled = np.zeros(len(plan.tasks)), np.zeros(SLOTS + 1, np.int64)
    for window in windows:
        examples, ends = plan.packed(window)
        tokens += np.bincount(examples.task, examples.length, minlength=len(tokens))
        rows = np.add.reduceat(examples.length, np.concatenate([[0], ends[:-1]]))
        filled += np.bincount(rows, minlength=SLOTS + 1)
    return tokens, filled


def export(directory: Path, count: int = 4000) -> dict:
    """The whole cache job over captions and codes in one process, as it is and through SeqIO's tf.data.

    CPU seconds count the reading of the manifest, the hashing and the joining; not the loading of TensorFlow.
    """
    from bagpiper_jax import text
    from bagpiper_jax.caching.config import CacheConfig
    from bagpiper_jax.caching.export import cache_mixtures
    from bagpiper_jax.manifest import read_manifest
    from bagpiper_jax.text import JsonTokenizer
    from tasks import preprocessors

    logging.disable(logging.INFO)
    codec = make_corpus(directory, count)
    captions = [clip.caption for clip in read_manifest(directory / "user")]
    tokenizer = text.learn_bpe(captions[:400], 4096, directory / "tokenizer.json")
    job = CacheConfig(
        mixtures=("user_caption_to_audio",), data_root="", cache_dir="", splits=("train",),
        tokenizer=tokenizer.path, codec=codec, shard_inputs=count // 4,
    )  # fmt: skip

    def measure(name: str) -> float:
        root = directory / name
        shutil.copytree(directory / "user", root / "user")  # another place: nothing of it is remembered
        began = time.process_time()
        cache_mixtures(dataclasses.replace(job, data_root=str(root), cache_dir=str(root / "cache")))
        return count / (time.process_time() - began)

    measure("warm")
    found = {"seqio": [], "ours": []}
    for attempt in range(3):
        with (
            mock.patch.object(preprocessors, "encoder_of", lambda task: None),
            mock.patch.object(JsonTokenizer, "encode", JsonTokenizer._encode_whole),
        ):
            found["seqio"].append(measure(f"seqio{attempt}"))
        found["ours"].append(measure(f"ours{attempt}"))
    assert _cores(directory / "seqio0") == _cores(directory / "ours0") != []
    return {
        "tokens_per_caption": round(sum(len(tokenizer.encode(c)) for c in captions[:200]) / 200),
        "examples_per_cpu_second": sorted(map(round, found["ours"])),
        "through_tf_data_each_text_whole": sorted(map(round, found["seqio"])),
        "shard_writer_alone": round(time_writing(directory / "writer")),
    }


def _cores(cache: Path) -> list[bytes]:
    """What the records of a cache are."""
    return [path.read_bytes() for path in sorted(cache.rglob("core.array_record*"))]
