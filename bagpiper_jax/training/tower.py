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

from bagpiper_jax.models.audio_tower import AudioTower
from bagpiper_jax.models.codec.storage import load_codec
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig
from bagpiper_jax.training import snapshot, tower_data
from bagpiper_jax.training.codec_report import reconstruct
from bagpiper_jax.training.metrics import MetricWriter
from bagpiper_jax.training.progress import Progress
from bagpiper_jax.training.state import flatten, unflatten
from bagpiper_jax.training.tags import Tags
from bagpiper_jax.training.tower_data import TaggedClips
from bagpiper_jax.training.waveforms import Waveforms, prefetched

_log = logging.getLogger(__name__)

REPORT = "tower_report.json"
_RARE = -3.0  # first logit of every tag: most hold in few frames


@dataclasses.dataclass(frozen=True)
class TrainTowerConfig:
    """A tower's training run.

    Attributes:
        output: directory of snapshot, metrics, the tower and `tower_report.json`; a run continues from what it
            finds there.
        corpora: manifest directories; only annotated clips are used.
        model: whose tower is trained.
        codec: file of a codec through which half of the clips are heard, so that generated audio is understood
            like any other; "" for none.
        steps, batch_clips, chunks: B clips of at most this many seconds per step.
        learning_rate, warmup_steps, weight_decay: of AdamW with cosine decay to a twentieth.
        seed: of initialisation and crops.
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
    """Everything training changes; `weights` are the tower's parameters by path and those of `tagger/`."""

    step: Array
    weights: dict[str, Array]
    moments: optax.OptState


def train_tower(config: TrainTowerConfig) -> tuple[dict[str, Array], dict[str, float]]:
    """Trains, and returns the tower's parameters by path, e.g. `conv1/kernel`, and its held-out scores."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    train, held_out = (Waveforms(config.corpora, split, annotated=True) for split in ("train", "validation"))
    tags = Tags(clip for _, clip in train.clips)
    copy = _codec_copies(config.codec) if config.codec else None
    state = snapshot.restore(output, initial_state(config, len(tags)), _identity(config))
    start = int(state.step)
    validation = _validation(held_out, tags, copy, config.chunks)

    def make(step: int) -> TaggedClips:
        return tower_data.draw(train, tags, copy, config.seed, step, config.batch_clips, config.chunks)

    writer, pending, scores = MetricWriter(output, start), None, {}
    with Progress(start, config.steps) as progress:
        for step, batch in prefetched(make, range(start, config.steps)):
            state, loss = train_step(state, batch, config)
            progress.step()
            done = step + 1
            if pending is not None:  # fetched one step late, when it is ready
                _publish(*pending, writer, progress)
            pending = (done, loss) if done % config.log_every == 0 else None
            if done % config.validate_every == 0 or done == config.steps:
                scores = _score(state, config, tags, validation)
                writer.write(done, scores, "validation")
                _log.info("step %d, held out: %s", done, _shown(scores))
            if done % config.save_every == 0 or done == config.steps:
                snapshot.save(output, state, _identity(config))
    if pending is not None:
        _publish(*pending, writer, progress)
    writer.close()
    scores = scores or _score(state, config, tags, validation)
    report = {"scores": scores, "tags": tags.names, "steps": config.steps, "seed": config.seed}
    (output / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return _tower_parameters(state.weights), scores


def _publish(step: int, loss: Array, writer: MetricWriter, progress: Progress) -> None:
    numbers = {"loss": float(loss)}
    if not np.isfinite(numbers["loss"]):
        raise FloatingPointError(f"the loss is {numbers['loss']} at step {step}; lower the learning rate")
    writer.write(step, numbers)
    progress.report(step, numbers)


def initial_state(config: TrainTowerConfig, num_tags: int) -> TowerState:
    weights = flatten(
        nnx.to_pure_dict(nnx.state(AudioTower(config.model.tower, rngs=nnx.Rngs(config.seed)), nnx.Param))
    )
    weights |= {
        "tagger/kernel": jnp.zeros((config.model.tower.output_width, num_tags)),
        "tagger/bias": jnp.full(num_tags, _RARE),
    }
    return TowerState(jnp.zeros((), jnp.int32), weights, _optimizer(config).init(weights))


def tag_logits(
    weights: dict[str, Array], config: AudioTowerConfig, batch: TaggedClips
) -> Float[Array, "B N K"]:
    """Logits of every tag at every token; each row is one clip and one attention window."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: AudioTower(config, rngs=nnx.Rngs(0))))
    tower = nnx.merge(graph, unflatten(_tower_parameters(weights)))
    present = (batch.chunk_frames > 0).astype(jnp.int32)
    features = tower(batch.mel, batch.chunk_frames, present, present)
    return features @ weights["tagger/kernel"] + weights["tagger/bias"]


def tag_loss(weights: dict[str, Array], config: AudioTowerConfig, batch: TaggedClips) -> Float[Array, ""]:
    """Binary cross-entropy, summed over tags, averaged over valid tokens."""
    logits = tag_logits(weights, config, batch)
    loss = optax.sigmoid_binary_cross_entropy(logits, batch.tags.astype(logits.dtype)).sum(-1)
    return jnp.where(batch.valid, loss, 0).sum() / batch.valid.sum()


@functools.partial(jax.jit, static_argnames="config", donate_argnums=0)
def train_step(
    state: TowerState, batch: TaggedClips, config: TrainTowerConfig
) -> tuple[TowerState, Float[Array, ""]]:
    loss, gradient = jax.value_and_grad(tag_loss)(state.weights, config.model.tower, batch)
    updates, moments = _optimizer(config).update(gradient, state.moments, state.weights)
    return TowerState(state.step + 1, optax.apply_updates(state.weights, updates), moments), loss


def _optimizer(config: TrainTowerConfig) -> optax.GradientTransformation:
    peak, warmup = config.learning_rate, min(config.warmup_steps, max(1, config.steps // 2))
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, config.steps, peak / 20)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay)
    )


def _tower_parameters(weights: dict[str, Array]) -> dict[str, Array]:
    return {name: x for name, x in weights.items() if not name.startswith("tagger/")}


def _codec_copies(path: str) -> tower_data.Copy:
    """Clips through the codec, each once."""
    parameters, config = load_codec(path)
    copies: dict[int, np.ndarray] = {}

    def copy(index: int, waveform: np.ndarray) -> np.ndarray:
        if index not in copies:
            copies[index] = np.asarray(reconstruct(parameters, config, waveform)[0], np.float16)
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


def _identity(config: TrainTowerConfig) -> dict:
    """What a snapshot must agree on for a run to continue from it."""
    changeable = ("output", "corpora", "log_every", "validate_every", "save_every")
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in changeable}
