"""The sides of benchmarks/data.py, each measured in a process of its own: ours, stock Grain's packing, SeqIO's."""

import functools
import os
import time
from pathlib import Path

import numpy as np


class Meter:
    """Counts slots of batches against the clock, the processor and memory, from the start of the process."""

    def __init__(self, seconds: float):
        self._seconds, self._born = seconds, float(os.environ["BENCHMARK_BORN"])

    def run(self, batches, measure) -> dict:
        """Reads until time is up; `measure(batch)` is (used slots, all slots). The first two batches warm up."""
        measure(next(batches))
        first, first_cpu = time.time() - self._born, time.process_time()
        measure(next(batches))
        began, cpu, used, total = time.perf_counter(), time.process_time(), 0, 0
        while time.perf_counter() - began < self._seconds:
            here = measure(next(batches))
            used, total = used + here[0], total + here[1]
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {
            "slots_per_second": round(used / wall),
            "slots_per_cpu_second": round(used / cpu),
            "packing_efficiency": round(used / total, 4),
            "first_batch_seconds": round(first, 2),
            "first_batch_cpu_seconds": round(first_cpu, 2),
            "resident_gib": round(_peak_kib() / 2**20, 3),
        }


def _peak_kib() -> int:
    """Most memory this process ever had; `ru_maxrss` would remember the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def ours(lock: Path, seconds: float, threads: int) -> dict:
    """The loader as training uses it."""
    from data_made import CHUNKS, ROWS, SLOTS, VOCABULARY

    from bagpiper_jax.batch import BatchShape
    from bagpiper_jax.data.loader import Loader

    meter = Meter(seconds)
    loader = Loader(lock, BatchShape(ROWS, SLOTS, CHUNKS), VOCABULARY)
    return meter.run(
        loader.iterate(threads=threads, prefetch=2),
        lambda batch: (int((batch.segment_ids > 0).sum()), batch.segment_ids.size),
    )


def grain_packing(lock: Path, seconds: float, threads: int, kind: str) -> dict:
    """Grain's own packing over the same records, rendered and heard by the same functions; 32 bins.

    What it packs is no training batch yet: audio spans are not shifted to where the examples end up.
    """
    import grain
    from data_made import CHUNKS, ROWS, SLOTS

    meter = Meter(seconds)
    dataset = _rendered(lock).seed(0).shuffle().repeat()
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=64))
    lengths = {"tokens": SLOTS, "weights": SLOTS, "mel": 100 * CHUNKS}
    if kind == "first_fit":
        dataset = grain.experimental.FirstFitPackIterDataset(
            dataset, length_struct=lengths, num_packing_bins=32, meta_features=("weights",)
        )
    else:
        # It splits what does not fit, so features would be cut from the slots they belong to: tokens alone.
        dataset = dataset.map(lambda e: {"tokens": e["tokens"]})
        dataset = grain.experimental.ConcatThenSplitIterDataset(dataset, length_struct={"tokens": SLOTS})
    dataset = dataset.batch(ROWS)

    def measure(batch):
        return int((batch["tokens_segment_ids"] > 0).sum()), batch["tokens_segment_ids"].size

    return meter.run(iter(dataset), measure)


def _rendered(lock: Path):
    """A MapDataset of rendered examples, mixed by examples so that tokens come out as the lock asks."""
    import grain
    from data_made import VOCABULARY

    from bagpiper_jax import audio, dialogue
    from bagpiper_jax.data.lock import open_caches, read_lock

    caches = open_caches(lock, read_lock(lock), "train")

    def render(index: int, cache) -> dict:
        example = dialogue.render(cache.read(index).messages(), VOCABULARY)
        mels = [audio.log_mel(span.samples) for span in example.audio]
        mel = np.concatenate([*mels, np.zeros((0, 128), np.float32)])
        return {"tokens": example.tokens, "weights": example.loss_weights, "mel": mel}

    sources = [
        grain.MapDataset.range(len(cache)).map(functools.partial(render, cache=cache)) for cache in caches
    ]
    return grain.MapDataset.mix(sources, [1 / cache.mean_length for cache in caches])


def seqio_packing(lock: Path, seconds: float, threads: int) -> dict:
    """SeqIO's trim and pack in tf.data, on the first of the eight streams: it can pack nothing of rank 2.

    Its input is already rendered, as one-dimensional int64 in TFRecords, which is what its own cache would hold.
    """
    meter = Meter(seconds)
    import seqio
    import tensorflow as tf
    from data_made import ROWS, SLOTS

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    features = {"targets": seqio.Feature(seqio.PassThroughVocabulary(1 << 18), add_eos=False, dtype=tf.int32)}
    task = seqio.TaskRegistry.add(
        "benchmark",
        source=seqio.TFExampleDataSource(
            {"train": str(write_tfrecords(lock))}, {"targets": tf.io.VarLenFeature(tf.int64)}
        ),
        preprocessors=[_dense],
        output_features=features,
    )
    dataset = seqio.get_dataset(
        task.name,
        {"targets": SLOTS},
        dataset_split="train",
        shuffle=True,
        num_epochs=None,
        feature_converter=seqio.LMFeatureConverter(pack=True),
    )
    dataset = dataset.batch(ROWS).prefetch(2)

    def measure(batch):
        segments = batch["decoder_segment_ids"]
        return int((segments > 0).sum()), segments.size

    return meter.run(dataset.as_numpy_iterator(), measure)


def _dense(dataset):
    import tensorflow as tf

    return dataset.map(lambda e: {"targets": tf.cast(tf.sparse.to_dense(e["targets"]), tf.int32)})


def write_tfrecords(lock: Path) -> Path:
    """Stream 0 of every example in proportion to its task's share of examples, written once."""
    path = lock.with_suffix(".tfrecord")
    if path.exists():
        return path
    import tensorflow as tf

    dataset = _rendered(lock)
    temporary = path.with_suffix(".tmp")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for index in range(len(dataset)):
            tokens = np.maximum(1, dataset[index]["tokens"][:, 0])  # SeqIO takes zeros for padding
            values = tf.train.Feature(int64_list=tf.train.Int64List(value=tokens))
            example = tf.train.Example(features=tf.train.Features(feature={"targets": values}))
            writer.write(example.SerializeToString())
    os.replace(temporary, path)
    return path
