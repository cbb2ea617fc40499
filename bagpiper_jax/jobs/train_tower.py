"""Pre-trains an audio tower: `bagpiper train_tower --gin_file=gin/runs/train_tower_nano.gin`."""

import logging
from pathlib import Path

import jax
import numpy as np

from bagpiper_jax import configuration, parallel
from bagpiper_jax.encoders.tower import TrainTowerConfig, train_tower
from bagpiper_jax.interop.tables import tower
from bagpiper_jax.interop.tables.grammar import to_theirs

FILE = "tower.safetensors"


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(TrainTowerConfig, argv, __doc__, prog="bagpiper train_tower")
    parallel.require_devices()
    parameters, _ = train_tower(config)
    path = Path(config.output) / FILE
    _write(path, {f"tower/{name}": x for name, x in jax.device_get(parameters).items()})
    logging.getLogger(__name__).info("%s: a Qwen3-Omni audio tower, for ImportConfig.tower", path)


def _write(path: Path, parameters: dict[str, np.ndarray]) -> None:
    """The tower under transformers' names."""
    from safetensors.numpy import save_file

    entries = tower.entries({name: x.shape for name, x in parameters.items()})
    save_file({name: np.ascontiguousarray(x) for name, x in to_theirs(entries, parameters)}, path)
