"""Training a codec from scratch: one story from corpus to a checked safetensors file."""

import dataclasses
import functools
import json
import logging
import os
from pathlib import Path

import jax
import numpy as np

from bagpiper_jax.encoders import codec_report, snapshot
from bagpiper_jax.encoders import loop as encoder_loop
from bagpiper_jax.encoders.adversary.config import AdversaryConfig
from bagpiper_jax.encoders.adversary.state import initial_adversary
from bagpiper_jax.encoders.adversary.step import adversarial_step
from bagpiper_jax.encoders.codec_data import Crops, crops
from bagpiper_jax.encoders.codec_step import (
    CodecOptimizerConfig,
    CodecState,
    initial_state,
    semantic_step,
    train_step,
)
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.waveforms import Waveforms
from bagpiper_jax.models.codecs.xcodec.storage import save_codec
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.runs import output_lock

_log = logging.getLogger(__name__)

FILE, REPORT = "codec.safetensors", "codec_report.json"
_CHANGEABLE = (
    "output", "corpora", "log_every", "validate_every", "save_every", "validation_clips", "compact",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrainCodecConfig:
    """A codec training run.

    Attributes:
        output: directory of checkpoint, metrics, `codec.safetensors` and `codec_report.json`; a run continues
            from what it finds there.
        corpora: manifest directories; one that is named twice is drawn from twice as often.
        codec, optimizer: settings of the parts.
        adversary: discriminators that learn with the codec from a step on; None for none.
        word_parts: tags of single words tell the word, and if this is more than 1, which of so many parts of it.
        steps: the optimizer steps of the whole run.
        replayed: the share of crops played faster or slower, for other voices; none while the semantic branch learns.
        batch_clips, crop_frames: B clips of this many codec frames per step.
        seed: the seed of initialisation, crops and codebook restarts.
        log_every, validate_every, save_every: steps.
        validation_clips: held-out clips measured; all of them at the end.
        compact: store the codec in float16 without training statistics.
    """

    output: str
    corpora: tuple[str, ...]
    codec: CodecConfig = CodecConfig()
    optimizer: CodecOptimizerConfig = CodecOptimizerConfig()
    adversary: AdversaryConfig | None = None
    word_parts: int = 1
    replayed: float = 0.0
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
        counts = (
            "steps",
            "batch_clips",
            "crop_frames",
            "log_every",
            "validate_every",
            "save_every",
            "word_parts",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.replayed <= 1:
            raise ValueError(f"replayed must be a share from 0 to 1, got {self.replayed}")
        first = self.optimizer.semantic_steps
        if self.adversary and not first <= self.adversary.begin < self.steps:
            raise ValueError(
                f"the adversary must begin after the {first} semantic steps and before step {self.steps}, got "
                f"{self.adversary.begin}"
            )


def train_codec(config: TrainCodecConfig) -> codec_report.CodecReport:
    """Trains, measures on held-out clips, and writes `codec.safetensors`; returns the last report."""
    with output_lock.hold(config.output):
        return _train(config)


def _train(config: TrainCodecConfig) -> codec_report.CodecReport:
    train, held_out = Waveforms(config.corpora, "train"), Waveforms(config.corpora, "validation")
    tags = Tags((clip for _, clip in train.clips), config.word_parts)
    _log.info("the semantic branch learns %d tags", len(tags))
    state, report = encoder_loop.train(
        config,
        _initial_state(config, len(tags)),
        snapshot.identity(config, _CHANGEABLE),
        make=functools.partial(_crops, config, train, tags),
        advance=functools.partial(_advance, config),
        measure=functools.partial(_measure, config, held_out),
        scalars=codec_report.scalars,
    )
    _finish(state, config, report)
    return report


def _initial_state(config: TrainCodecConfig, num_tags: int) -> CodecState:
    state = initial_state(config.codec, config.optimizer, config.steps, config.seed, num_tags)
    if config.adversary is None:
        return state
    return dataclasses.replace(
        state, adversary=initial_adversary(config.adversary, config.steps, config.seed)
    )


def _crops(config: TrainCodecConfig, train: Waveforms, tags: Tags, step: int) -> Crops:
    """The semantic branch alone is small: it gets twice the clips, of twice the length."""
    alone = step < config.optimizer.semantic_steps
    scale, replayed = (2, 0.0) if alone else (1, config.replayed)
    count, frames = scale * config.batch_clips, scale * config.crop_frames
    return crops(train, tags, config.seed, step, count, frames, config.codec.hop, replayed)


def _advance(
    config: TrainCodecConfig, state: CodecState, batch: Crops, step: int
) -> tuple[CodecState, dict[str, jax.Array]]:
    settings = {"codec": config.codec, "config": config.optimizer, "steps": config.steps}
    if step < config.optimizer.semantic_steps:
        return semantic_step(state, batch, **settings)
    if config.adversary is not None and step >= config.adversary.begin:
        return adversarial_step(state, batch, adversary=config.adversary, **settings, seed=config.seed)
    return train_step(state, batch, **settings, seed=config.seed)


def _measure(
    config: TrainCodecConfig, held_out: Waveforms, state: CodecState, done: int
) -> codec_report.CodecReport | None:
    """A sample of the held-out clips on the way, all of them at the end; none while nothing can be decoded."""
    if done <= config.optimizer.semantic_steps and done < config.steps:
        return None
    count = min(config.validation_clips, len(held_out)) if done < config.steps else len(held_out)
    chosen = np.linspace(0, len(held_out) - 1, count).astype(int)
    read = [(held_out.clips[i][1], held_out.read(i)) for i in chosen]
    clips = [codec_report.HeldOutClip.of(clip, waveform) for clip, waveform in read if waveform is not None]
    report, _ = codec_report.measure(state.parameters, config.codec, clips)
    return report


def _finish(state: CodecState, config: TrainCodecConfig, report: codec_report.CodecReport) -> None:
    output = Path(config.output)
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
