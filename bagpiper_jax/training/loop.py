"""The training loop, read from top to bottom: compile, start or continue, step, report, validate, save."""

import contextlib
import functools
import itertools
import logging
import math
import signal
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.data.batch import Batch
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.training import provenance
from bagpiper_jax.training.checkpoints import Checkpoints, restore_parameters
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.losses import LossSums
from bagpiper_jax.training.metrics import MetricWriter, Unigram, loss_scalars, write_summary
from bagpiper_jax.training.progress import Progress
from bagpiper_jax.training.state import TrainState, abstract_parameters, abstract_state, create_state
from bagpiper_jax.training.step import StepMetrics, compile_step, make_eval_step, make_train_step

_log = logging.getLogger(__name__)

UNIGRAM_BATCHES = 16
"""Training batches that the unigram model counts."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


class Data(Protocol):
    """What the loop asks of a loader (`data.loader.Loader`)."""

    def batch(self, step: int) -> Batch: ...
    def iterate(self, start_step: int) -> Iterator[Batch]: ...
    def state(self, step: int) -> dict: ...
    def check(self, state: dict) -> int: ...


def train(
    config: TrainConfig,
    data: Data,
    validation: Sequence[Batch] = (),
    operative_config: str = "",
    extras: Mapping[str, object] = types.MappingProxyType({}),
) -> bool:
    """Trains to `config.steps`, continuing from the newest checkpoint in `config.output`.

    Args:
        config: of the run.
        data: this process's rows of the training batches.
        validation: this process's rows of the validation batches.
        operative_config: gin text, saved with every checkpoint.
        extras: JSON values for generation to know, kept in the run's config.json.

    Returns:
        True when all steps are done; False when SIGTERM ended the run early, with everything saved.

    Raises:
        CheckpointError: a save failed, or what is there does not fit this run.
        ResumeError: the data changed since the checkpoint.
        TrainingError: the loss is not finite.
    """
    output, first = Path(config.output), jax.process_index() == 0
    mesh = parallel.make_mesh(config.mesh)
    _log.info("mesh %s, attention kernel %s", dict(mesh.shape), config.model.decoder.attention)

    # Where to start, in this order: the newest checkpoint of this run, another run's parameters, at random.
    checkpoints = Checkpoints(output / "checkpoints", config.keep)
    state, start = _start(config, mesh, checkpoints, data)
    if start >= config.steps:
        _log.info("%s has its %d steps already", output, config.steps)
        return True
    if first:
        save_model_config(
            output, config.model, tokenizer=config.tokenizer, codec=config.codec, stage=config.stage, **extras
        )
    origin = provenance.record(output, operative_config, start)

    # Compiled ahead for fixed shapes: these can fail on another shape, but never compile again.
    train_step = compile_step(make_train_step(config, mesh), config, mesh)
    validate = _make_validate(config, mesh, data, validation)

    writer = MetricWriter(output, start, active=first)
    report = _Report(config, writer, start)
    step, pending = start, None
    with _termination() as terminated, Progress(start, config.steps, active=first) as progress:
        for batch in itertools.islice(_on_mesh(data.iterate(start), mesh), config.steps - start):
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch)
            step += 1
            progress.step()
            last = terminated(step) or step == config.steps

            # Metrics are read one step late, while the device is busy with the next step.
            if pending:
                progress.report(pending[0], report(*pending))
            pending = (step, metrics) if last or step % config.log_every == 0 else None

            if validate and (step == config.steps or _due(step, config.validate_every)):
                progress.report(step, report.validation(step, validate(state)))
            if last or _due(step, config.save_every):
                _require_finite(step, float(jax.device_get(metrics.sums.total)))
                checkpoints.save(state, data.state(step), origin)
            checkpoints.check()
            if last:
                break
        progress.report(step, report(*pending))
    checkpoints.wait()
    checkpoints.close()
    writer.close()
    if first:
        write_summary(output, report.summary())
    return step == config.steps


def _start(config: TrainConfig, mesh: Mesh, checkpoints: Checkpoints, data: Data) -> tuple[TrainState, int]:
    """The state to continue from, and its step."""
    step = checkpoints.latest()
    if step is not None:
        state, position = checkpoints.restore(step, abstract_state(config, mesh))
        data.check(position)
        _log.info("continuing from step %d of %s", step, config.output)
        return state, step
    if config.init_from:
        _log.info("starting from the parameters of %s", config.init_from)
        parameters = restore_parameters(config.init_from, abstract_parameters(config.model, mesh))
        return create_state(config, mesh, parameters), 0
    return create_state(config, mesh), 0


def _on_mesh(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Batch]:
    """Global batches on the devices, one ahead: the next one is on its way while a step runs."""
    sharding = parallel.batch_sharding(mesh)

    def place(batch: Batch) -> Batch:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    ahead = None
    for batch in batches:
        ahead, current = place(batch), ahead
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead


def _make_validate(config: TrainConfig, mesh: Mesh, data: Data, batches: Sequence[Batch]):
    """A function state → scalars on the validation batches, with the unigram loss beside; None without any."""
    if not batches:
        return None
    eval_step = compile_step(make_eval_step(config, mesh), config, mesh)
    counted = map(data.batch, range(UNIGRAM_BATCHES))
    add = functools.partial(parallel.global_sum, mesh)
    unigram = Unigram(counted, config.model.vocabulary, add).loss(batches)

    def validate(state: TrainState) -> dict[str, float]:
        sums = [eval_step(state, batch) for batch in _on_mesh(iter(batches), mesh)]
        total: LossSums = jax.tree.map(lambda *x: np.sum(x, axis=0), *jax.device_get(sums))
        return loss_scalars(total) | {"unigram_loss": unigram}

    return validate


class _Report:
    """Turns step metrics into scalars, writes them, and remembers the newest for the summary."""

    def __init__(self, config: TrainConfig, writer: MetricWriter, start: int):
        self._slots = config.batch.rows * config.batch.slots
        self._writer = writer
        self._newest: dict[str, dict] = {}
        self._began = self._since = time.monotonic()
        self._start = self._step = start

    def __call__(self, step: int, metrics: StepMetrics) -> dict[str, float]:
        metrics = jax.device_get(metrics)
        _require_finite(step, float(metrics.sums.total))
        now, tokens = time.monotonic(), int(metrics.tokens)
        rate = (step - self._step) / max(now - self._since, 1e-9)
        self._since, self._step = now, step
        scalars = loss_scalars(metrics.sums) | {
            "learning_rate": float(metrics.learning_rate),
            "gradient_norm": float(metrics.gradient_norm),
            "padding_share": 1 - tokens / self._slots,
            "tokens_per_second": tokens * rate,
            "steps_per_second": rate,
        }
        return self._write(step, scalars, "train")

    def validation(self, step: int, scalars: dict[str, float]) -> dict[str, float]:
        return self._write(step, scalars, "validation")

    def summary(self) -> dict:
        seconds = time.monotonic() - self._began
        return {"step": self._step, "start_step": self._start, "seconds": seconds, **self._newest}

    def _write(self, step: int, scalars: dict[str, float], kind: str) -> dict[str, float]:
        self._writer.write(step, scalars, kind)
        self._newest[kind] = {"step": step, **scalars}
        return scalars


@contextlib.contextmanager
def _termination():
    """Gives a function step → whether SIGTERM asks all processes to stop after this step."""
    if jax.process_count() > 1:  # the processes must agree on the step; JAX's preemption service sees to it
        yield multihost_utils.reached_preemption_sync_point
        return
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda step: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _require_finite(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}; nothing was saved since. Lower OptimizerConfig.peak_rate or look "
            "at the batch with inspect_data, then run again to continue from the last checkpoint"
        )
