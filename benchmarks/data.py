"""The data path: serving, planning and exporting, beside SeqIO's and Grain's own packing, in one run.

    python benchmarks/data.py --directory=/tmp/bench_data [--seconds=20] [--threads=2] [--only=NAME …]
        [--lock=cache/debian_pretraining_with_reading.lock.json …] [--whole_run=WORKERS]

Makes caches in the directory on the first run. Prints one JSON object per measurement:

    ours_with_mel, ours_text_and_codes     the loader as training uses it
    grain_first_fit, grain_concat          stock Grain packing over the same records, rendered by the same functions
    seqio_pack                             seqio.get_dataset's trim and pack, one stream of the eight, pre-rendered
    packing                                efficiency at 8,192 slots, varied lengths and every --lock
    plan                                   422M examples in 157 sources of skewed sizes: speed, memory, shares
    export                                 text and codes through the cache job, per core; the same through tf.data
    whole_run                              every row of 600B tokens by that plan; only where --whole_run is given

Each runs in a process of its own, whose start counts in `first_batch_seconds`. Bind it to the cores that a process
may have: `taskset -c 0,1 python benchmarks/data.py …`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data_made
import data_plan
import data_sides

NAMES = (
    "ours_with_mel", "ours_text_and_codes", "grain_first_fit", "grain_concat", "seqio_pack", "packing", "plan",
    "export",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--directory", type=Path, default=Path(tempfile.gettempdir()) / "bagpiper_jax_bench_data"
    )
    parser.add_argument("--examples", type=int, default=1500, help="records per cache that is made")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--lock", nargs="*", default=(), help="mixtures whose packing is reported too")
    parser.add_argument("--whole_run", type=int, default=0, metavar="WORKERS")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given)))
        return
    if set(given.only) - {"packing", "plan", "export"}:
        data_made.make_mixture(given.directory, "silent", data_made.SILENT, given.examples)
        hearing = data_made.make_mixture(given.directory, "hearing", data_made.HEARING, given.examples)
    if "seqio_pack" in given.only:
        data_sides.write_tfrecords(hearing)
    for name in (*given.only, *(["whole_run"] if given.whole_run else ())):
        print(json.dumps({"name": name, **in_a_process(name)}), flush=True)


def in_a_process(name: str) -> dict:
    """Measures in a fresh process, with one BLAS thread as the jobs set it."""
    environment = os.environ | {
        "BENCHMARK_BORN": str(time.time()),
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        ),
    }
    done = subprocess.run(
        [sys.executable, *sys.argv, f"--measure={name}"], env=environment, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": done.returncode}


def measure(name: str, given: argparse.Namespace) -> dict:
    hearing, silent = (given.directory / f"{kind}.lock.json" for kind in ("hearing", "silent"))
    if name.startswith("ours"):
        lock = hearing if name == "ours_with_mel" else silent
        return data_sides.ours(lock, given.seconds, given.threads)
    if name.startswith("grain"):
        return data_sides.grain_packing(hearing, given.seconds, given.threads, name.removeprefix("grain_"))
    if name == "seqio_pack":
        return data_sides.seqio_packing(hearing, given.seconds, given.threads)
    if name == "packing":
        return data_plan.packing(given.lock)
    if name == "plan":
        return data_plan.plan_speed(given.directory / "plan")
    if name == "whole_run":
        return data_plan.whole_run(given.directory / "plan", given.whole_run)
    with tempfile.TemporaryDirectory() as directory:
        return data_plan.export(Path(directory))


if __name__ == "__main__":
    main()
