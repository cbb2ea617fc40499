"""Our train step beside the same step in PyTorch: one run, one model, one batch.

    python benchmarks/against_torch.py --gin_file=gin/runs/nano_pretrain.gin --threads=2
    python benchmarks/against_torch.py --gin_file=gin/models/8b.gin \\
        --gin_file=gin/stages/sft.gin --gin_file=gin/slices/h200.gin --gin.TrainConfig.output=runs/sft_8b \\
        --device=gpu --compile --gin.BatchShape.rows=1 --gin.TrainConfig.accumulation=1 \\
        --gin.DecoderConfig.attention=cudnn

On a CPU both sides start from the same parameters and take turns, step by step, so that whatever else the machine does
meets both; their losses must agree. On a GPU, whose memory holds one of them, each has a process of its own, one after
the other, and the costliest operations of each are named. Prints one JSON object: tokens/s, and MFU in both attention
conventions where the device's peak is known.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

SIDES = ("ours", "torch")
UNMEASURED = 2


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of either side on a CPU")
    parser.add_argument("--steps", type=int, default=10, help="measured, after two that are not")
    parser.add_argument("--compile", action="store_true", help="torch.compile the decoder")
    parser.add_argument("--torch_attention", choices=("sdpa", "sdpa_causal"), default="sdpa")
    parser.add_argument("--profile", action="store_true", help="name the costliest operations on a CPU too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_known_args()


def main() -> None:
    given, flags = arguments()
    if given.device == "gpu" and given.side is None:
        print(json.dumps(in_processes(), indent=1))
        return
    # Before either library starts its threads.
    os.environ.setdefault(
        "JAX_PLATFORMS", "cpu" if given.device == "cpu" or given.side == "torch" else "cuda"
    )
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if given.device == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    from bagpiper_jax import configuration
    from bagpiper_jax.training.config import TrainConfig

    # What is drawn at random has no counterpart on the other side.
    config = dataclasses.replace(configuration.load(TrainConfig, flags), history_noise=0.0)
    sides = {side: MAKE[side](config, given) for side in (SIDES if given.side is None else [given.side])}
    measured = measure(sides, given.steps)
    result = {side: describe(config, side, measured[side]) for side in sides}
    for side, step in sides.items():
        if given.device == "gpu" or given.profile:
            result[side]["top_costs"] = step.top_costs()
    print(json.dumps(compared(result), indent=1))


def in_processes() -> dict:
    """Both sides, each in a process of its own."""
    result = {}
    for side in SIDES:
        command = [sys.executable, *sys.argv, f"--side={side}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            result[side] = {"failed": done.returncode}  # its own words are on stderr
        else:
            result |= json.loads(done.stdout)
    return compared(result)


def measure(sides: dict, steps: int) -> dict[str, list[tuple[float, float, float]]]:
    """(seconds, seconds of all threads together, loss) of every step, the sides taking turns."""
    found = {side: [] for side in sides}
    for _ in range(steps + UNMEASURED):
        for side, step in sides.items():
            began, worked = time.perf_counter(), time.process_time()
            loss = step()
            found[side].append((time.perf_counter() - began, time.process_time() - worked, loss))
    return found


def describe(config, side: str, steps: list[tuple[float, float, float]]) -> dict:
    """Speed of one side. On a busy machine the CPU seconds tell more than those on the clock."""
    seconds, worked, _ = zip(*steps[UNMEASURED:], strict=True)
    median = statistics.median(seconds)
    slots = config.batch.rows * config.batch.slots
    found = {
        "tokens_per_second": round(slots / median),
        "step_seconds": {f.__name__: round(f(seconds), 4) for f in (min, statistics.median, max)},
        "cpu_seconds": round(statistics.median(worked), 4),
        "losses": [loss for *_, loss in steps],
    }
    return found | mfu(config, side, median)


def mfu(config, side: str, seconds: float) -> dict:
    """MFU in both conventions, or nothing for a device of unknown peak."""
    from bagpiper_jax.runs.chips import chip_of
    from bagpiper_jax.training.flops import step_flops

    flops, chip = step_flops(config), chip_of(device_name(side))
    if chip is None:
        return {}
    peak = chip.flops * seconds
    return {"mfu_full": round(flops.full / peak, 4), "mfu_causal": round(flops.causal / peak, 4)}


def device_name(side: str) -> str:
    if side == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import jax

    return jax.devices()[0].device_kind


def compared(result: dict) -> dict:
    """Adds the ratios and the largest relative difference of losses where both sides ran."""
    if not all("tokens_per_second" in result.get(side, {}) for side in SIDES):
        return result
    pairs = list(zip(*(result[side]["losses"] for side in SIDES), strict=True))
    result["ours_over_torch"] = round(
        result["ours"]["tokens_per_second"] / result["torch"]["tokens_per_second"], 3
    )
    result["torch_over_ours_cpu_seconds"] = round(
        result["torch"]["cpu_seconds"] / result["ours"]["cpu_seconds"], 3
    )
    result["largest_loss_difference"] = max(abs(a - b) / abs(b) for a, b in pairs)
    return result


class Ours:
    """Our step on its mesh."""

    def __init__(self, config, given):
        import jax
        from packed_batch import random_batch

        from bagpiper_jax import parallel
        from bagpiper_jax.training.state import create_state
        from bagpiper_jax.training.step import compile_step, make_train_step

        mesh = parallel.make_mesh(config.mesh)
        self.state = create_state(config, mesh)
        self.step = compile_step(make_train_step(config, mesh), config, mesh)
        self.batch = jax.device_put(random_batch(config), parallel.batch_sharding(mesh))

    def __call__(self) -> float:
        self.state, metrics = self.step(self.state, self.batch)
        return float(metrics.sums.total / metrics.sums.frames)

    def top_costs(self) -> list:
        import jax
        from top_costs import device_costs

        with tempfile.TemporaryDirectory() as directory:
            with jax.profiler.trace(directory):
                self()
            return device_costs(directory)


class Torch:
    """The PyTorch side; on a CPU it starts from our parameters."""

    def __init__(self, config, given):
        import numpy as np
        import torch
        from packed_batch import random_batch
        from torch_step import TorchStep

        torch.set_num_threads(given.threads)
        self.on_gpu = given.device == "gpu"
        device = "cuda" if self.on_gpu else "cpu"
        ours = None
        if not self.on_gpu:
            from bagpiper_jax.training.state import initial_state

            ours = {n: np.asarray(x) for n, x in initial_state(config).parameters.items()}
        self.step = TorchStep(config, device, given.torch_attention, given.compile, ours)
        self.batch = self.step.place(random_batch(config))

    def __call__(self) -> float:
        return self.step.run(self.batch)

    def top_costs(self) -> list:
        import torch

        kind, key = ("CUDA", "self_device_time_total") if self.on_gpu else ("CPU", "self_cpu_time_total")
        with torch.profiler.profile(activities=[getattr(torch.profiler.ProfilerActivity, kind)]) as profile:
            self()
        costs = sorted(((getattr(e, key), e.key) for e in profile.key_averages()), reverse=True)
        return [{"name": name[:80], "seconds": round(time / 1e6, 4)} for time, name in costs[:5]]


MAKE: dict[str, type[Ours] | type[Torch]] = {"ours": Ours, "torch": Torch}

if __name__ == "__main__":
    main()
