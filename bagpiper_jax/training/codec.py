"""Training a codec from scratch: one story from corpus to a checked safetensors file."""

import dataclasses
import functools
import json
import logging
import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax.models.codec.storage import save_codec
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.training import codec_report
from bagpiper_jax.training.codec_data import Crops, crops
from bagpiper_jax.training.codec_step import (
    CodecOptimizerConfig,
    CodecState,
    initial_state,
    semantic_step,
    train_step,
)
from bagpiper_jax.training.metrics import MetricWriter
from bagpiper_jax.training.progress import Progress
from bagpiper_jax.training.snapshot import restore, save
from bagpiper_jax.training.tags import Tags
from bagpiper_jax.training.waveforms import Waveforms, prefetched

_log = logging.getLogger(__name__)

FILE, REPORT = "codec.safetensors", "codec_report.json"


@dataclasses.dataclass(frozen=True)
class TrainCodecConfig:
    """A codec training run.

    Attributes:
        output: directory of checkpoint, metrics, `codec.safetensors` and `codec_report.json`; a run continues
            from what it finds there.
        corpora: manifest directories.
        codec, optimizer: settings of the parts.
        steps: of the whole run.
        batch_clips, crop_frames: B clips of this many codec frames per step.
        seed: of initialisation, crops and codebook restarts.
        log_every, validate_every, save_every: steps.
        validation_clips: held-out clips measured; all of them at the end.
        compact: store the codec in float16 without training statistics.
    """

    output: str
    corpora: tuple[str, ...]
    codec: CodecConfig = CodecConfig()
    optimizer: CodecOptimizerConfig = CodecOptimizerConfig()
    steps: int = 400_000
    batch_clips: int = 32
    crop_frames: int = 50
    seed: int = 0
    log_every: int = 20
    validate_every: int = 1000
    save_every: int = 500
    validation_clips: int = 32
    compact: bool = False

    def __post_init__(self):
        for name in ("steps", "batch_clips", "crop_frames", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def train_codec(config: TrainCodecConfig) -> codec_report.CodecReport:
    """Trains, measures on held-out clips, and writes `codec.safetensors`; returns the last report."""
    output = Path(config.output)
    train, held_out = Waveforms(config.corpora, "train"), Waveforms(config.corpora, "validation")
    tags = Tags(clip for _, clip in train.clips)
    _log.info("the semantic branch learns %d tags", len(tags))
    template = initial_state(config.codec, config.optimizer, config.steps, config.seed, len(tags))
    rows, everywhere = _shardings(config.batch_clips)
    output.mkdir(parents=True, exist_ok=True)
    state = jax.device_put(restore(output, template, _identity(config)), everywhere)
    start = int(state.step)
    make = functools.partial(_crops, config, train, tags)
    advance = functools.partial(_advance, config)
    writer, pending = MetricWriter(output, start), None
    with Progress(start, config.steps) as progress:
        for step, batch in prefetched(make, range(start, config.steps)):
            state, metrics = advance(state, jax.device_put(batch, rows), step)
            progress.step()
            done = step + 1
            if pending is not None:  # metrics are fetched one step late, when they are ready
                _publish(*pending, writer, progress)
                pending = None
            if done % config.log_every == 0:
                pending = done, metrics
            if done % config.validate_every == 0 and config.optimizer.semantic_steps < done < config.steps:
                report, _ = _measure(state, config, held_out, config.validation_clips)
                writer.write(done, codec_report.scalars(report), "validation")
            if done % config.save_every == 0 or done == config.steps:
                save(output, state, _identity(config))
    if pending is not None:
        _publish(*pending, writer, progress)
    report, decoded = _measure(state, config, held_out, len(held_out))
    writer.write(config.steps, codec_report.scalars(report), "validation")
    writer.close()
    _finish(output, state, config, report)
    return report


def _crops(config: TrainCodecConfig, train: Waveforms, tags: Tags, step: int) -> Crops:
    """The semantic branch alone is small: it gets twice the clips, of twice the length."""
    scale = 2 if step < config.optimizer.semantic_steps else 1
    count, frames = scale * config.batch_clips, scale * config.crop_frames
    return crops(train, tags, config.seed, step, count, frames, config.codec.hop)


def _advance(config: TrainCodecConfig, state: CodecState, batch: Crops, step: int):
    settings = {"codec": config.codec, "config": config.optimizer, "steps": config.steps}
    if step < config.optimizer.semantic_steps:
        return semantic_step(state, batch, **settings)
    return train_step(state, batch, **settings, seed=config.seed)


def _publish(step: int, metrics: dict[str, jax.Array], writer: MetricWriter, progress: Progress) -> None:
    numbers = {name: float(value) for name, value in metrics.items()}
    if not np.isfinite(numbers["loss"]):
        raise FloatingPointError(f"the loss is {numbers['loss']} at step {step}; lower the learning rate")
    writer.write(step, numbers)
    progress.report(step, numbers)


def _measure(state, config: TrainCodecConfig, held_out: Waveforms, count: int):
    chosen = np.linspace(0, len(held_out) - 1, min(count, len(held_out))).astype(int)
    read = [(held_out.clips[i][1], held_out.read(i)) for i in chosen]
    clips = [codec_report.HeldOutClip.of(clip, waveform) for clip, waveform in read if waveform is not None]
    return codec_report.measure(state.parameters, config.codec, clips)


def _finish(output: Path, state, config: TrainCodecConfig, report: codec_report.CodecReport) -> None:
    provenance = {
        "corpora": [os.path.basename(corpus) for corpus in config.corpora],
        "report": dataclasses.asdict(report),
        "seed": config.seed,
        "steps": config.steps,
    }
    name = save_codec(output / FILE, state.parameters, config.codec, provenance, config.compact)
    text = json.dumps({"fingerprint": name, **provenance}, indent=1, sort_keys=True)
    (output / REPORT).write_text(text + "\n", encoding="utf-8")
    _log.info("codec %s: mel %s, STOI %s, %s", name, report.mel, report.stoi, output / FILE)


def _shardings(batch_clips: int) -> tuple[NamedSharding, NamedSharding]:
    """Data parallel over as many devices as divide the batch."""
    count = max(n for n in range(1, len(jax.devices()) + 1) if batch_clips % n == 0)
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    return NamedSharding(mesh, P("data")), NamedSharding(mesh, P())


def _identity(config: TrainCodecConfig) -> dict:
    """What a checkpoint must agree on for a run to continue from it."""
    changeable = (
        "output",
        "corpora",
        "log_every",
        "validate_every",
        "save_every",
        "validation_clips",
        "compact",
    )
    settings = dataclasses.asdict(config)
    return {name: value for name, value in settings.items() if name not in changeable}
