"""Compiles a run for devices nobody owns: `plan --gin_file=gin/runs/nano_pretrain.gin --topology=v5e:4x4`."""

import json
import re
import sys
from pathlib import Path

import jax

from bagpiper_jax import configuration
from bagpiper_jax.training.plan import PlanConfig, PlanError, plan

EXIT_DOES_NOT_FIT = 3


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    shorthand = [re.sub(r"^--(topology|devices|json)=", r"--gin.PlanConfig.\1=", flag) for flag in argv]
    config = configuration.load(PlanConfig, ["--gin.PlanConfig.train=@TrainConfig()", *shorthand])
    # A plan touches no accelerator; both must be said before JAX starts.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", config.devices)
    try:
        result = plan(config)
    except (PlanError, ValueError) as error:
        sys.exit(f"plan: {error}")
    text = json.dumps(result, indent=1)
    print(text)
    if config.json:
        Path(config.json).write_text(text + "\n")
    return EXIT_DOES_NOT_FIT if result["fits"] is False else 0


if __name__ == "__main__":
    configuration.run_job(lambda: sys.exit(main()))
