"""What a run needs before it has a machine.

bagpiper plan --gin_file=gin/runs/pretrain_8b_v5p_128.gin [--hlo] [--search] [--json=FILE]

Compiles the run's train step for the slice it names, or for --topology=v5e-256, =v6e:4x4 or =2xv6e:16x16, on any
machine that has libtpu; without a slice for --devices=N virtual CPU devices. Prints a table, and writes JSON.

bagpiper plan --gin_file=… --topology=v6e-8 '--gin.PlanConfig.generation=@GenerationPlan()'

sizes an engine that answers with the run's model instead: requests at once, rows per second, time to first audio,
cost of an hour of audio.

docs/plan.md explains both. Exit codes: 0 it fits, 2 wrong configuration, 3 it does not fit, 4 its mixture is cached
and violates its limits.
"""

import json
import re
import sys
from pathlib import Path

import jax

from bagpiper_jax import configuration
from bagpiper_jax.runs import compiler_flags
from bagpiper_jax.sizing.devices import PlanError
from bagpiper_jax.sizing.generation import plan_generation
from bagpiper_jax.sizing.generation_table import generation_table
from bagpiper_jax.sizing.mixture import check_mixture
from bagpiper_jax.sizing.plan import PlanConfig, plan, target, wanted_slice
from bagpiper_jax.sizing.search import search
from bagpiper_jax.sizing.table import search_table, table

EXIT_DOES_NOT_FIT = 3
EXIT_VIOLATED = 4


def expand(argv: list[str]) -> list[str]:
    """Short flags to bindings."""
    argv = [f"{flag}=True" if flag in ("--search", "--hlo") else flag for flag in argv]
    names = "topology|devices|search|hlo|candidates|json"
    return [re.sub(rf"^--({names})=", r"--gin.PlanConfig.\1=", flag) for flag in argv]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    flags = ["--gin.PlanConfig.train=@TrainConfig()", *expand(argv)]
    config = configuration.load(PlanConfig, flags, __doc__, prog="bagpiper plan")
    try:
        result = make(config)
    except ValueError as error:
        raise PlanError(str(error)) from error
    print(table(result) if config.generation is None else generation_table(result))
    if config.json:
        Path(config.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["fits"] is False:
        return EXIT_DOES_NOT_FIT
    return EXIT_VIOLATED if result.get("mixture", {}).get("valid") is False else 0


def make(config: PlanConfig) -> dict:
    """The plan; of a search, that of the best candidate that fits, else of the last one tried."""
    if config.generation is not None and config.search:
        raise PlanError(
            "--search looks for a train step; a plan of generation takes the mesh that it is given"
        )
    wanted = wanted_slice(config)
    # A plan touches no accelerator; both must be said before JAX starts.
    jax.config.update("jax_platforms", "cpu")
    stands_in = wanted.chips if wanted and not wanted.topology else config.devices
    jax.config.update("jax_num_cpu_devices", stands_in)
    where = target(config)
    compiler_flags.require_known(config.train.compiler_flags)
    if config.generation is not None:
        return plan_generation(config.train.model, config.generation, where)
    mixture = check_mixture(config.train)
    if not config.search:
        return plan(config.train, where, config.hlo) | {"mixture": mixture}
    tried = search(config.train, where, config.candidates)
    if not tried:
        raise PlanError("no remat policy, rows per chip and mesh shape come near the memory of this chip")
    print(search_table(tried), end="\n\n")
    return tried[-1] | {"mixture": mixture, "tried": tried}
