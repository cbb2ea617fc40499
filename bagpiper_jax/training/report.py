"""From step metrics to what a person reads: scalars per interval, and the run's summary."""

from pathlib import Path

import jax

from bagpiper_jax.runs.chips import chip_of
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.progress import Progress
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.metrics import MetricWriter, loss_scalars, write_summary
from bagpiper_jax.training.step import StepMetrics

BUSY = ("step", "data")
"""Phases that speed is measured over; validation and checkpoints show in the goodput instead."""


class Report:
    """Turns step metrics into scalars, writes and shows them, and remembers the newest for the summary.

    Speeds are those of the interval that ends: slots that are no padding, and the share of the chips' peak that the
    model's FLOPs take (`mfu`, attention counted in full, padding included; absent where no peak is published).
    """

    def __init__(
        self,
        config: TrainConfig,
        writer: MetricWriter,
        progress: Progress,
        ledger: Ledger,
        flops_per_step: float,
    ):
        self._slots = config.batch.rows * config.batch.slots
        self._writer, self._progress, self._ledger = writer, progress, ledger
        self._newest: dict[str, dict] = {}
        self._start = self._step = ledger.step
        self._busy = self._busy_seconds()
        chip = chip_of(jax.devices()[0].device_kind)
        self._flops_per_step = flops_per_step
        self._peak = chip.flops * jax.device_count() if chip else None

    def training(self, step: int, metrics: StepMetrics) -> None:
        """The scalars of one step, with the speed since the last call. Waits for the step."""
        metrics = jax.device_get(metrics)
        now, tokens = self._busy_seconds(), int(metrics.tokens)
        rate = (step - self._step) / max(now - self._busy, 1e-9)
        self._busy, self._step = now, step
        speed = {
            "tokens_per_second": tokens * rate,
            "tokens_per_second_per_chip": tokens * rate / jax.device_count(),
            "steps_per_second": rate,
        }
        if self._peak:
            speed["mfu"] = self._flops_per_step * rate / self._peak
        scalars = loss_scalars(metrics.sums) | {
            "learning_rate": float(metrics.learning_rate),
            "gradient_norm": float(metrics.gradient_norm),
            "skipped_steps": int(metrics.guard.skipped),
            "corrupt_examples": int(metrics.guard.corrupt),
            "padding_share": 1 - tokens / self._slots,
            **speed,
            "goodput": self._ledger.total()["goodput"],
        }
        self._write(step, scalars, "train")

    def validation(self, step: int, scalars: dict[str, float]) -> None:
        self._write(step, scalars, "validation")

    def close(self, directory: Path) -> None:
        """Ends the files, and writes the summary if this process writes at all."""
        self._writer.close()
        if self._writer.active:
            account = self._ledger.total()
            summary = {
                "step": self._step,
                "start_step": self._start,
                "seconds": sum(self._ledger.seconds.values()),
            }
            write_summary(directory, {**summary, "goodput": account, **self._newest})

    def _busy_seconds(self) -> float:
        seconds = self._ledger.seconds
        return sum(seconds[phase] for phase in BUSY)

    def _write(self, step: int, scalars: dict[str, float], kind: str) -> None:
        self._ledger.save()
        self._writer.write(step, scalars, kind)
        self._newest[kind] = {"step": step, **scalars}
        self._progress.report(step, scalars, kind)
