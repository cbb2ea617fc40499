"""Train steps as the TPU compiler makes them, on a machine without TPUs: memory, bytes sent, seconds modelled.

    python benchmarks/tpu_steps.py [--gin_files gin/runs/pretrain_8b_v6e_256.gin …]

Each run is compiled as far as its optimised HLO, without its slice's flags of the compiler and with them. Prints a
table: GiB per chip that are allocated, GiB that a chip sends in a step, those of them that are sent while nothing is
computed, and the seconds of a step whose products run at peak and whose synchronous bytes travel at the links' peak.
"""

import argparse
import dataclasses
import os
from importlib import metadata

import jax

from bagpiper_jax import configuration
from bagpiper_jax.jobs import end_with
from bagpiper_jax.sizing.plan import PlanConfig, plan, target
from bagpiper_jax.training.config import TrainConfig

RUNS = tuple(f"gin/runs/pretrain_8b_{name}.gin" for name in ("v5e_256", "v5p_128", "v6e_256"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gin_files", nargs="+", default=RUNS)
    flags = parser.parse_args()
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"
    jax.config.update("jax_platforms", "cpu")
    print(f"jax {jax.__version__}, libtpu {metadata.version('libtpu')}\n")
    print(
        "| slice | flags | GiB per chip | GiB sent | of these synchronous | modelled step, s | HLO after, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for file in flags.gin_files:
        config = configuration.build(TrainConfig, [file])
        for with_flags in (False, True):
            train = config if with_flags else dataclasses.replace(config, compiler_flags=())
            print(_line(train, "of the slice" if with_flags else "none"), flush=True)


def _line(train: TrainConfig, flags: str) -> str:
    found = plan(train, target(PlanConfig(train)), to_hlo=True)
    seconds = found["roofline_seconds"]
    sent = sum(found["collective_gib_per_chip"]["ici"].values())
    waited = sum(found["synchronous_gib_per_chip"].values())
    cells = [
        train.slice, flags, f"{found['hbm_gib_per_chip']['total']:.2f}", f"{sent:.1f}", f"{waited:.1f}",
        f"{seconds['compute'] + seconds['waiting']:.3f}", f"{found['compile_seconds']:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    end_with("tpu_steps", main)
