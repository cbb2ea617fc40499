"""Pre-training an audio tower from scratch, to tag what sounds when.

The release takes its tower from Qwen3-Omni and freezes it. A small model has none to take: this trains one on a
corpus's annotations, so that the rest of the training is the release's.
"""

import dataclasses
import functools
import json
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from bagpiper_jax.encoders import loop as encoder_loop
from bagpiper_jax.encoders import snapshot, tagger, tower_data
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.tower_data import TaggedClips
from bagpiper_jax.encoders.waveforms import Waveforms
from bagpiper_jax.models.audio_tower import AudioTower
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig
from bagpiper_jax.models.parameters import flatten, unflatten
from bagpiper_jax.runs import output_lock

_log = logging.getLogger(__name__)

REPORT = "tower_report.json"
_CHANGEABLE = ("output", "corpora", "log_every", "validate_every", "save_every")


@dataclasses.dataclass(frozen=True)
class TrainTowerConfig:
    """A tower's training run.

    Attributes:
        output: directory of snapshot, metrics, the tower and `tower_report.json`; a run continues from what it
            finds there.
        corpora: manifest directories; only annotated clips are used.
        model: the model whose tower is trained.
        codec: file of a codec through which half of the clips are heard, so that generated audio is understood
            like any other; "" for none.
        steps, batch_clips, chunks: B clips of at most this many seconds per step.
        learning_rate, warmup_steps, weight_decay: settings of AdamW with cosine decay to a twentieth.
        seed: the seed of initialisation and crops.
        log_every, validate_every, save_every: steps.
    """

    output: str
    corpora: tuple[str, ...]
    model: BagpiperConfig = BagpiperConfig()
    codec: str = ""
    steps: int = 4000
    batch_clips: int = 8
    chunks: int = 3
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    seed: int = 0
    log_every: int = 20
    validate_every: int = 500
    save_every: int = 500


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TowerState:
    """Everything training changes; `weights` are the tower's parameters by path and those of `tagger`."""

    step: Array
    weights: dict[str, Array]
    moments: optax.OptState


def train_tower(config: TrainTowerConfig) -> tuple[dict[str, Array], dict[str, float]]:
    """Trains, and returns the tower's parameters by path, e.g. `conv1/kernel`, and its held-out scores."""
    with output_lock.hold(config.output):
        return _train(config)


def _train(config: TrainTowerConfig) -> tuple[dict[str, Array], dict[str, float]]:
    train, held_out = (Waveforms(config.corpora, split, annotated=True) for split in ("train", "validation"))
    tags = Tags(clip for _, clip in train.clips)
    copy = _codec_copies(config.codec) if config.codec else None
    validation = _validation(held_out, tags, copy, config.chunks)

    def measure(state: TowerState, done: int) -> dict[str, float]:
        scores = _score(state, config, tags, validation)
        _log.info("step %d, held out: %s", done, _shown(scores))
        return scores

    state, scores = encoder_loop.train(
        config,
        initial_state(config, len(tags)),
        snapshot.identity(config, _CHANGEABLE),
        make=lambda step: tower_data.draw(
            train, tags, copy, config.seed, step, config.batch_clips, config.chunks
        ),
        advance=lambda state, batch, step: train_step(state, batch, config),
        measure=measure,
        scalars=dict,
    )
    report = {"scores": scores, "tags": tags.names, "steps": config.steps, "seed": config.seed}
    path = Path(config.output) / REPORT
    path.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return tagger.strip(state.weights), scores


def initial_state(config: TrainTowerConfig, num_tags: int) -> TowerState:
    weights = flatten(
        nnx.to_pure_dict(nnx.state(AudioTower(config.model.tower, rngs=nnx.Rngs(config.seed)), nnx.Param))
    )
    weights |= tagger.initialize(config.model.tower.output_width, num_tags)
    return TowerState(jnp.zeros((), jnp.int32), weights, _optimizer(config).init(weights))


def tag_logits(
    weights: dict[str, Array], config: AudioTowerConfig, batch: TaggedClips
) -> Float[Array, "B N K"]:
    """Logits of every tag at every token; each row is one clip and one attention window."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: AudioTower(config, rngs=nnx.Rngs(0))))
    tower = nnx.merge(graph, unflatten(tagger.strip(weights)))
    present = (batch.chunk_frames > 0).astype(jnp.int32)
    features = tower(batch.mel, batch.chunk_frames, present, present)
    return tagger.logits(weights, features)


def tag_loss(weights: dict[str, Array], config: AudioTowerConfig, batch: TaggedClips) -> Float[Array, ""]:
    """The tagger's loss, averaged over valid tokens."""
    loss = tagger.frame_losses(tag_logits(weights, config, batch), batch.tags)
    return jnp.where(batch.valid, loss, 0).sum() / batch.valid.sum()


@functools.partial(jax.jit, static_argnames="config", donate_argnums=0)
def train_step(
    state: TowerState, batch: TaggedClips, config: TrainTowerConfig
) -> tuple[TowerState, dict[str, Array]]:
    loss, gradient = jax.value_and_grad(tag_loss)(state.weights, config.model.tower, batch)
    updates, moments = _optimizer(config).update(gradient, state.moments, state.weights)
    return TowerState(state.step + 1, optax.apply_updates(state.weights, updates), moments), {"loss": loss}


def _optimizer(config: TrainTowerConfig) -> optax.GradientTransformation:
    peak, warmup = config.learning_rate, min(config.warmup_steps, max(1, config.steps // 2))
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, config.steps, peak / 20)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay)
    )


def _codec_copies(path: str) -> tower_data.Copy:
    """Clips through the codec, each once."""
    codec = open_codec(path)
    copies: dict[int, np.ndarray] = {}

    def copy(index: int, waveform: np.ndarray) -> np.ndarray:
        if index not in copies:
            copies[index] = np.asarray(codec.decode(codec.encode([waveform]))[0], np.float16)
        return copies[index].astype(np.float32)

    return copy


def _validation(held_out: Waveforms, tags: Tags, copy, chunks: int) -> dict[str, TaggedClips]:
    """The beginnings of all held-out clips, as they are and through the codec."""
    read = [(i, clip, held_out.read(i)) for i, (_, clip) in enumerate(held_out.clips)]
    read = [(i, clip, waveform) for i, clip, waveform in read if waveform is not None]
    found = {"": tower_data.collate([(clip, waveform, 0) for _, clip, waveform in read], tags, chunks)}
    if copy is not None:  # indices below 0: copies of training clips are kept under their own
        copied = [(clip, copy(-1 - i, waveform), 0) for i, clip, waveform in read]
        found["_codec"] = tower_data.collate(copied, tags, chunks)
    return found


@functools.partial(jax.jit, static_argnames="config")
def _evaluate(weights, config: AudioTowerConfig, batch: TaggedClips):
    return tag_loss(weights, config, batch), tag_logits(weights, config, batch)


def _score(state: TowerState, config: TrainTowerConfig, tags: Tags, batches: dict[str, TaggedClips]) -> dict:
    """Held-out loss, and per group of tags the share of its tokens whose likeliest tag of the group holds."""
    scores = {}
    for suffix, batch in batches.items():
        loss, logits = jax.device_get(_evaluate(state.weights, config.model.tower, batch))
        scores["loss" + suffix] = float(loss)
        for group, members in tags.groups().items():
            held, best = batch.tags[..., members], logits[..., members].argmax(-1)
            asked = held.any(-1) & batch.valid
            right = np.take_along_axis(held, best[..., None], -1)[..., 0]
            if asked.any():
                scores[group + suffix] = float(right[asked].mean())
    return scores


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
