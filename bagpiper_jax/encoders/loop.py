"""The loop that trains an encoder, codec or tower, from scratch: one host, one snapshot, all of the corpus in memory.

`training/loop.py` is that of the model itself.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from bagpiper_jax.encoders import snapshot
from bagpiper_jax.encoders.waveforms import prefetched
from bagpiper_jax.errors import Explained
from bagpiper_jax.runs.progress import Progress
from bagpiper_jax.training.metrics import MetricWriter

_Report = TypeVar("_Report")


class DivergedError(Explained):
    """A loss that is no number any more; the message names the step and the remedy."""


class EncoderRun(Protocol):
    """What the loop needs of a run's settings: its directory, its rows, and when it does what, in steps."""

    output: str
    batch_clips: int
    steps: int
    log_every: int
    validate_every: int
    save_every: int


def train(
    config: EncoderRun,
    state: PyTree,
    identity: dict,
    *,
    make: Callable[[int], PyTree],
    advance: Callable[[PyTree, PyTree, int], tuple[PyTree, dict[str, jax.Array]]],
    measure: Callable[[PyTree, int], _Report | None],
    scalars: Callable[[_Report], dict[str, float]],
) -> tuple[PyTree, _Report]:
    """Runs to the last step, from the snapshot in `config.output` if there is one; the last state and report.

    Args:
        state: a fresh one, with a `step`.
        identity: the settings that a snapshot must agree on (`snapshot.identity`).
        make: step → its batch, a pure function; every array has B rows, or a multiple of it.
        advance: (state, batch, step) → the next state, and metrics with a `loss`.
        measure: (state, steps done) → a report on held-out clips, or None where there is nothing to measure yet.
        scalars: the numbers of a report that go to the metrics.

    Raises:
        DivergedError: the loss is not finite.
        SnapshotError: the snapshot is damaged, or another run's.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    rows, everywhere = _data_parallel(config.batch_clips)
    state = jax.device_put(snapshot.restore(output, state, identity), everywhere)
    start = int(state.step)
    writer = MetricWriter(output, start)
    with Progress(start, config.steps) as progress:
        metrics = _LateMetrics(writer, progress)
        for step, batch in prefetched(make, range(start, config.steps)):
            state, numbers = advance(state, jax.device_put(batch, rows), step)
            progress.step()
            done = step + 1
            metrics.publish()
            if done % config.log_every == 0:
                metrics.keep(done, numbers)
            if done % config.validate_every == 0 and done < config.steps:
                report = measure(state, done)
                if report is not None:
                    writer.write(done, scalars(report), "validation")
            if done % config.save_every == 0 or done == config.steps:
                metrics.publish()  # a run that continues from the snapshot does not see them again
                snapshot.save(output, state, identity)
    report = measure(state, config.steps)
    assert report is not None, "the last step is always measured"
    writer.write(config.steps, scalars(report), "validation")
    writer.close()
    return state, report


class _LateMetrics:
    """Metrics that are fetched once the next step is under way, when they are ready."""

    def __init__(self, writer: MetricWriter, progress: Progress):
        self._writer, self._progress, self._kept = writer, progress, None

    def keep(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._kept = step, metrics

    def publish(self) -> None:
        """Writes and shows what was kept, once."""
        if self._kept is None:
            return
        step, metrics = self._kept
        self._kept = None
        numbers = {name: float(value) for name, value in metrics.items()}
        if not np.isfinite(numbers["loss"]):
            raise DivergedError(f"the loss is {numbers['loss']} at step {step}; lower the learning rate")
        self._writer.write(step, numbers)
        self._progress.report(step, numbers)


def _data_parallel(batch_clips: int) -> tuple[NamedSharding, NamedSharding]:
    """Rows over as many devices as divide the batch, and one copy on each of them."""
    count = max(n for n in range(1, len(jax.devices()) + 1) if batch_clips % n == 0)
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    return NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
