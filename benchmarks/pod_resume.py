r"""A run on four processes, stopped by SIGTERM and continued on two: its losses beside those of an undisturbed run.

    python benchmarks/pod_resume.py --gin_file=gin/runs/nano_pretrain.gin --gin.TrainConfig.steps=20 \
        --gin.BatchShape.rows=4

Runs the gin run three times in a temporary directory, on pods of this machine with four devices in all: four
processes to the end; four until SIGTERM, at half of the steps, then two with two devices each; and the same, then four
again. Prints one JSON object with the largest relative difference of a training loss. Needs the run's cache.
"""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

POD = Path(__file__).resolve().parent.parent / "launch" / "local_pod.py"
DEVICES = 4


def run(output: Path, flags: list[str], processes: int, stop_at: int = 0) -> int:
    """The exit code of a pod, which gets SIGTERM when it logs step `stop_at`."""
    pod = subprocess.Popen(
        [sys.executable, str(POD), f"--processes={processes}", f"--devices_per_process={DEVICES // processes}", "--",
         sys.executable, "-m", "bagpiper_jax", "train", *flags, f"--gin.TrainConfig.output='{output}'",
         "--gin.TrainConfig.log_every=1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in pod.stdout:
        print(line, end="", file=sys.stderr)
        if stop_at and f"step {stop_at}/" in line:
            pod.send_signal(signal.SIGTERM)
            stop_at = 0
    return pod.wait()


def losses(output: Path) -> dict[int, float]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def compare(whole: dict[int, float], other: dict[int, float], stopped: int) -> dict:
    assert whole.keys() == other.keys(), "steps are missing"
    after = [step for step in whole if step > stopped]
    return {
        "stopped_after_step": stopped,
        "steps_compared": len(after),
        "equal_bits": sum(whole[step] == other[step] for step in after),
        "largest_relative_difference": max(abs(other[s] / whole[s] - 1) for s in whole),
    }


def main() -> None:
    flags, result = sys.argv[1:], {}
    with tempfile.TemporaryDirectory(dir=".") as directory:
        root = Path(directory)
        assert run(root / "whole", flags, 4) == 0
        whole = losses(root / "whole")
        for name, processes in (("resumed_on_2", 2), ("resumed_on_4", 4)):
            assert run(root / name, flags, 4, stop_at=max(whole) // 2) == 75
            stopped = max(losses(root / name))
            assert run(root / name, flags, processes) == 0
            result[name] = compare(whole, losses(root / name), stopped)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
