"""Trains a model. `bagpiper train --gin_file=gin/runs/nano_pretrain.gin`

The same command continues a run that was interrupted. Exit codes: 0 done, 75 ended early by SIGTERM (with everything
saved), by a stall, or in a pod by a missing host or failing storage: run it again to continue; 2 a fault that the
message explains, 1 any other. `<output>/crash.txt` says why a run ended. docs/running.md has every fault.
"""

import contextlib
import logging
import os

# Mel features are many small products; BLAS threads would only spin beside those that feed the devices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from bagpiper_jax import configuration, parallel  # noqa: E402
from bagpiper_jax.batch import Batch  # noqa: E402
from bagpiper_jax.data.loader import Loader, LoaderConfig, fingerprints  # noqa: E402
from bagpiper_jax.errors import EXIT_TRY_AGAIN  # noqa: E402
from bagpiper_jax.pods.joining import join_pod  # noqa: E402
from bagpiper_jax.runs import compiler_flags, faults  # noqa: E402
from bagpiper_jax.runs.ledger import Ledger  # noqa: E402
from bagpiper_jax.runs.outputs import Output  # noqa: E402
from bagpiper_jax.training.checkpoint_checks import require_plain  # noqa: E402
from bagpiper_jax.training.checkpoints import SaveError  # noqa: E402
from bagpiper_jax.training.config import TrainConfig  # noqa: E402
from bagpiper_jax.training.loop import train  # noqa: E402
from bagpiper_jax.training.tables import require_start  # noqa: E402

ENDS_AT_ONCE = True
"""After a fault; `bagpiper_jax.jobs.end_with` tells why."""

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    ledger = Ledger()
    config = configuration.load(TrainConfig, argv, prog="bagpiper train")
    compiler_flags.export(config.compiler_flags)
    require_plain(config.output)
    output = Output(config.output)
    try:
        with faults.reported(config.output, ledger), contextlib.ExitStack() as stack:
            join_pod()
            parallel.require_devices()
            if jax.process_index() == 0:
                stack.enter_context(output.held(config.watch.beat_seconds))
            require_start(config)
            cached_with = fingerprints(config.tokenizer, config.codec)
            data = open_loader(
                config,
                config.train_lock,
                **cached_with,
                seed=config.seed,
                cfg_dropout=config.cfg_dropout,
                feature_cache_mb=config.feature_cache_mb,
                migrate_from=config.migrate_from,
            )
            extras = {"system_prompt": data.lock.system_prompt}
            gin = configuration.operative_config()
            validation = validation_batches(config, cached_with)
            done = train(config, data, validation, gin, extras, ledger, output)
    except SaveError as error:
        if jax.distributed.is_initialized():  # a pod's storage may come back
            error.exit_code = EXIT_TRY_AGAIN
        raise
    return 0 if done else EXIT_TRY_AGAIN


def open_loader(config: TrainConfig, lock: str, **settings) -> Loader:
    """This process's share of a mixture. `settings` are more fields of LoaderConfig."""
    share, shares = parallel.process_share(parallel.make_mesh(config.mesh))
    return Loader(
        lock,
        config.batch,
        config.model.vocabulary,
        LoaderConfig(
            render=config.render,
            window_chunks=config.model.tower.window_chunks,
            max_excluded=config.limits.max_over_long,
            **settings,
        ),
        process_index=share,
        process_count=shares,
    )


def validation_batches(config: TrainConfig, cached_with: dict[str, str | None]) -> list[Batch]:
    """Batches spread evenly over the validation split, without CFG dropout; none without a lock.

    Args:
        cached_with: what `fingerprints` says of the run's tokenizer and codec.
    """
    if not config.validation_lock:
        return []
    data = open_loader(
        config, config.validation_lock, **cached_with, split="validation", finite=True, cfg_dropout=0.0
    )
    steps = np.unique(np.linspace(0, data.num_steps - 1, config.validation_batches).round().astype(int))
    _log.info("validating on %d of %d batches of %s", len(steps), data.num_steps, config.validation_lock)
    return [data.batch(int(step)) for step in steps]
