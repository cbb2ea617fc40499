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
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.codes import CodeStoreError, codec_fingerprint
from bagpiper_jax.data.loader import Loader, ResumeError
from bagpiper_jax.data.planner import PlanError
from bagpiper_jax.processes import join_pod
from bagpiper_jax.text import TokenizerError, load_tokenizer
from bagpiper_jax.training.checkpoints import CheckpointError
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.loop import TrainingError, train

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: try again

# Their messages name file and remedy; a traceback would only hide them.
_EXPLAINED = (
    CacheError,
    CheckpointError,
    CodeStoreError,
    PlanError,
    ResumeError,
    TokenizerError,
    TrainingError,
)

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    config = configuration.load(TrainConfig, argv)
    join_pod()
    try:
        data = open_loader(config, config.train_lock, seed=config.seed, cfg_dropout=config.cfg_dropout)
        done = train(config, data, validation_batches(config), configuration.operative_config())
    except _EXPLAINED as error:
        sys.exit(f"train: {error}")
    return 0 if done else EXIT_PREEMPTED


def open_loader(config: TrainConfig, lock: str, **settings) -> Loader:
    """This process's share of a mixture, which must be cached with the run's tokenizer and codec."""
    return Loader(
        lock,
        config.batch,
        config.model.vocabulary,
        config.render,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        tokenizer=load_tokenizer(config.tokenizer).fingerprint if config.tokenizer else None,
        codec=codec_fingerprint(config.codec) if config.codec else None,
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
