"""Trains a model. `python -m bagpiper_jax.train --gin_file=gin/runs/nano_pretrain.gin`

The same command continues a run that was interrupted. Exit codes: 0 done, 75 stopped by SIGTERM with everything
saved (run it again to continue), 2 wrong configuration, 1 any other failure.
"""

import logging
import sys

import jax
import numpy as np

from bagpiper_jax import configuration
from bagpiper_jax.data.batch import Batch
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.processes import join_pod
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.loop import train

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: try again

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    config = configuration.load(TrainConfig, argv)
    join_pod()
    data = open_loader(config, config.train_lock, seed=config.seed, cfg_dropout=config.cfg_dropout)
    done = train(config, data, validation_batches(config), configuration.operative_config())
    return 0 if done else EXIT_PREEMPTED


def open_loader(config: TrainConfig, lock: str, **settings) -> Loader:
    """This process's share of a mixture."""
    return Loader(
        lock,
        config.batch,
        config.model.vocabulary,
        config.render,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **settings,
    )


def validation_batches(config: TrainConfig) -> list[Batch]:
    """Batches spread evenly over the validation split, without CFG dropout; none without a lock."""
    if not config.validation_lock:
        return []
    data = open_loader(config, config.validation_lock, split="validation", finite=True, cfg_dropout=0.0)
    steps = np.unique(np.linspace(0, data.num_steps - 1, config.validation_batches).round().astype(int))
    _log.info("validating on %d of %d batches of %s", len(steps), data.num_steps, config.validation_lock)
    return [data.batch(int(step)) for step in steps]


if __name__ == "__main__":
    configuration.run_job(lambda: sys.exit(main()))
