"""The training loop, read from top to bottom: compile, start or continue, step, report, validate, save."""

import contextlib
import functools
import itertools
import logging
import signal
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.batch import Batch
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.runs import faults, provenance
from bagpiper_jax.runs.heartbeat import Heartbeat
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.outputs import Output
from bagpiper_jax.runs.profiling import Profile
from bagpiper_jax.runs.progress import Progress, Underway
from bagpiper_jax.runs.trackers.group import Trackers
from bagpiper_jax.runs.trackers.protocol import TrackedRun
from bagpiper_jax.training import companions, weights
from bagpiper_jax.training import step as steps
from bagpiper_jax.training.checkpoints import Checkpoints
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.flops import step_flops
from bagpiper_jax.training.losses import LossSums
from bagpiper_jax.training.metrics import MetricWriter, Unigram, loss_scalars
from bagpiper_jax.training.report import Report
from bagpiper_jax.training.skips import SkipReport
from bagpiper_jax.training.state import TrainState, abstract_state, create_state
from bagpiper_jax.training.tables import base_parameters, starting_parameters, with_base

_log = logging.getLogger(__name__)

UNIGRAM_BATCHES = 16
"""Training batches that the unigram model counts."""


class Data(Protocol):
    """What the loop asks of a loader (`data.loader.Loader`)."""

    def batch(self, step: int) -> Batch: ...
    def iterate(self, start_step: int) -> Iterator[Batch]: ...
    def contents(self, step: int) -> list[list[str]]: ...
    def state(self, step: int) -> dict: ...
    def check(self, state: dict) -> int: ...


def train(
    config: TrainConfig,
    data: Data,
    validation: Sequence[Batch] = (),
    operative_config: str = "",
    extras: Mapping[str, object] = types.MappingProxyType({}),
    ledger: Ledger | None = None,
    output: Output | None = None,
) -> bool:
    """Trains to `config.steps`, continuing from the newest checkpoint in `config.output`.

    Args:
        config: the configuration of the run.
        data: this process's rows of the training batches.
        validation: this process's rows of the validation batches.
        operative_config: gin text, saved with every checkpoint.
        extras: JSON values for generation to know, kept in the run's config.json.
        ledger: begun when the process began; by default it begins here.
        output: of the run, if the caller has opened it.

    Returns:
        True when all steps are done; False when SIGTERM ended the run early, with everything saved.

    Raises:
        OutputInUseError: another run is alive in the output.
        CheckpointError: a save failed repeatedly, or what is there does not fit this run.
        ResumeError: the data changed since the checkpoint.
        TrainingError: too many steps in a row had no usable loss or gradient.
        TrackerError: a tracker's client is not installed.
    """
    output, ledger, trackers = output or Output(config.output), ledger or Ledger(), Trackers()
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(output.held(config.watch.beat_seconds))
            run = TrackedRun(output.path.name, output.local)
            trackers = stack.enter_context(Trackers(config.trackers, run))
        stack.enter_context(Heartbeat(output, ledger, config.watch, jax.process_index(), jax.process_count()))
        trackers.done = _train(config, data, validation, operative_config, extras, output, ledger, trackers)
    return trackers.done


def _train(
    config, data, validation, operative_config, extras, output: Output, ledger: Ledger, trackers: Trackers
) -> bool:
    local, first = output.local, jax.process_index() == 0
    mesh = parallel.make_mesh(config.mesh)
    _log.info("mesh %s, attention kernel %s", dict(mesh.shape), config.model.decoder.attention)

    # Where to start, in this order: the newest checkpoint of this run, another run's parameters, at random.
    ledger.enter("restore")
    checkpoints = Checkpoints(output.path / "checkpoints", config.keep)
    state, start = _start(config, mesh, checkpoints, data)
    if start >= config.steps:
        _log.info("%s has its %d steps already", config.output, config.steps)
        return True
    if first:
        output.fetch()
        kept = companions.keep(local, config.tokenizer, config.codec)
        if config.adapter and config.init_from:
            kept[weights.TOLD] = weights.description(config.adapter, config.init_from, state.parameters)
        save_model_config(local, config.model, stage=config.stage, **kept, **extras)
        faults.set_aside(output.path)
    ledger.open(local, start, active=first)
    origin = provenance.record(local, operative_config, start)

    # Compiled ahead for fixed shapes: these can fail on another shape, but never compile again.
    ledger.enter("compile")
    with jax.set_mesh(mesh), Underway("compiling the train step", active=first):
        traced = steps.trace_step(steps.make_train_step(config, mesh), config, mesh)
        train_step = traced.lower().compile(compiler_options=steps.compiler_options(config, mesh))
    if first:
        provenance.record_program(local, traced, train_step)
    with Underway("compiling the validation step", active=first):
        validate = _make_validate(config, mesh, data, validation)

    ledger.enter("step")
    writer = MetricWriter(local, start, first, trackers)
    writer.text("gin", operative_config, start)
    profile = Profile(local / "profile", config.watch.profile)
    skips = SkipReport(local, config.guard, data.contents, active=first)
    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpoints)
        terminated = stack.enter_context(_termination())
        progress = stack.enter_context(Progress(start, config.steps, active=first))
        stack.callback(profile.close)
        report = Report(config, writer, progress, ledger, step_flops(config).full)
        step, before = start, None
        batches = itertools.islice(_on_mesh(data.iterate(start), mesh), config.steps - start)
        for batch in ledger.waits(batches):
            with jax.transfer_guard("disallow"), profile.before(step + 1):
                state, metrics = train_step(state, batch)
            step += 1

            # Of the step before, read while the device is busy with this one; so the host is one step ahead at most.
            if before:
                skips(step - 1, before)
                if _due(step - 1, config.log_every):
                    report.training(step - 1, before)
            before, ledger.step = metrics, step
            progress.step()
            profile.after(step, metrics)
            last = terminated(step) or step == config.steps
            if last:
                skips(step, metrics)
                report.training(step, metrics)

            if validate and (step == config.steps or _due(step, config.validate_every)):
                with ledger.during("eval"), Underway("validating", active=first):
                    report.validation(step, validate(state))
            with ledger.during("checkpoint"):
                if last or _due(step, config.save_every) or checkpoints.failed():
                    checkpoints.save(state, data.state(step), origin, wait=last)
            if last:
                break
    ledger.end = "done" if step == config.steps else "preempted"
    ledger.save()
    report.close(local)
    output.push(now=True)
    return step == config.steps


def _start(config: TrainConfig, mesh: Mesh, checkpoints: Checkpoints, data: Data) -> tuple[TrainState, int]:
    """The state to continue from, and its step."""
    step = checkpoints.latest()
    if step is not None:
        state, position = checkpoints.restore(step, abstract_state(config, mesh))
        data.check(position)
        _log.info("continuing from step %d of %s", step, config.output)
        return with_base(state, config, mesh) if config.adapter else state, step
    if config.adapter:
        state = create_state(config, mesh, base_parameters(config, mesh))
        _log.info("an adapter of %s: %s", config.init_from, lora.counted(state.parameters))
        return state, 0
    if config.init_from:
        _log.info("starting from the parameters of %s", config.init_from)
        parameters = starting_parameters(config.init_from, config.model, mesh)
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
    eval_step = steps.compile_step(steps.make_eval_step(config, mesh), config, mesh)
    counted = map(data.batch, range(UNIGRAM_BATCHES))
    add = functools.partial(parallel.global_sum, mesh)
    unigram = Unigram(counted, config.model.vocabulary, add).loss(batches)

    def validate(state: TrainState) -> dict[str, float]:
        sums = [eval_step(state, batch) for batch in _on_mesh(iter(batches), mesh)]
        total: LossSums = jax.tree.map(lambda *x: np.sum(x, axis=0), *jax.device_get(sums))
        return loss_scalars(total) | {"unigram_loss": unigram}

    return validate


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
