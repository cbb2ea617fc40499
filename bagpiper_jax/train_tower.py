"""Pre-trains an audio tower: `python -m bagpiper_jax.train_tower --gin_file=gin/runs/train_tower_nano.gin`."""

import logging
from pathlib import Path

import jax
import numpy as np

from bagpiper_jax import configuration
from bagpiper_jax.interop import tower
from bagpiper_jax.interop.names import to_theirs
from bagpiper_jax.training.tower import TrainTowerConfig, train_tower

FILE = "tower.safetensors"


def main(argv=None):
    from safetensors.numpy import save_file

    config = configuration.load(TrainTowerConfig, argv, __doc__)
    parameters, _ = train_tower(config)
    ours = {f"tower/{name}": x for name, x in jax.device_get(parameters).items()}
    path = Path(config.output) / FILE
    entries = tower.entries({name: x.shape for name, x in ours.items()})
    save_file({name: np.ascontiguousarray(x) for name, x in to_theirs(entries, ours)}, path)
    logging.getLogger(__name__).info("%s: a Qwen3-Omni audio tower, for ImportConfig.tower", path)


if __name__ == "__main__":
    configuration.run_job(main)
