"""A tiny model and batches of packed random documents, for tests of the trainer."""

import dataclasses

import numpy as np

from bagpiper_jax.batch import Batch, BatchShape
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.losses import LossConfig
from bagpiper_jax.training.optimizer import OptimizerConfig
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT, Vocabulary

VOCABULARY = Vocabulary(text_size=56, codebook_size=32)
MODEL = BagpiperConfig(
    DecoderConfig(
        layers=2, width=32, ffn_width=48, heads=4, kv_heads=2, head_width=8, dtype="float32", remat="none"
    ),
    AudioTowerConfig(
        mel_bins=128, layers=1, width=32, heads=2, ffn_width=48, conv_channels=4, output_width=16,
        dtype="float32", remat="none",
    ),
    VOCABULARY,
)  # fmt: skip
SHAPE = BatchShape(rows=8, slots=48, chunks=2)
CONFIG = TrainConfig(
    output="unused",
    train_lock="unused",
    model=MODEL,
    batch=SHAPE,
    stage="scratch",
    loss=LossConfig(chunk=20),
    optimizer=OptimizerConfig(peak_rate=1e-2, warmup_steps=2, decay_end=50, weight_decay=0.01),
    mesh=MeshConfig(fsdp=1),
    steps=6,
)

TINY_FLAGS = [
    "--gin.TrainConfig.model=@BagpiperConfig()", "--gin.BagpiperConfig.decoder=@DecoderConfig()",
    "--gin.BagpiperConfig.tower=@AudioTowerConfig()", "--gin.BagpiperConfig.vocabulary=@Vocabulary()",
    "--gin.Vocabulary.text_size=256", "--gin.Vocabulary.codebook_size=64",
    "--gin.DecoderConfig.layers=1", "--gin.DecoderConfig.width=16", "--gin.DecoderConfig.ffn_width=16",
    "--gin.DecoderConfig.heads=2", "--gin.DecoderConfig.kv_heads=1", "--gin.DecoderConfig.head_width=8",
    "--gin.AudioTowerConfig.layers=1", "--gin.AudioTowerConfig.width=16", "--gin.AudioTowerConfig.heads=2",
    "--gin.AudioTowerConfig.ffn_width=16", "--gin.AudioTowerConfig.conv_channels=2",
    "--gin.AudioTowerConfig.output_width=8", "--gin.TrainConfig.batch=@BatchShape()", "--gin.BatchShape.rows=8",
    "--gin.BatchShape.slots=256", "--gin.BatchShape.chunks=8", "--gin.TrainConfig.steps=3",
    "--gin.TrainConfig.validation_batches=2", "--gin.TrainConfig.stage='scratch'",
]  # fmt: skip
"""The same for the train job, on caches of `synthetic_cache`."""


def make_document(rng: np.random.Generator, length: int, chunks: int = 0) -> dict:
    """Tokens and weights of one random document; text, or codec frames; `chunks` of listened audio first."""
    tokens, weights = np.zeros((length, 8), np.int32), np.zeros((length, 8), np.float32)
    tokens[:, 0] = rng.integers(4, VOCABULARY.codec_start, length)
    heard = 13 * chunks
    tokens[1 : 1 + heard] = 0
    weights[1 + heard :, 0] = 1
    if not chunks:
        half = length // 2
        tokens[half:] = VOCABULARY.codes_to_ids(rng.integers(0, 32, (length - half, 8)))
        weights[half:] = CODEC_CLASS_WEIGHT
    weights[:1] = 0
    return {"tokens": tokens, "weights": weights, "mel": rng.standard_normal((chunks, 100, 128)) * 0.5}


def pack(rows: list[list[dict]], shape: BatchShape = SHAPE) -> Batch:
    """Documents to a batch, one list per row."""
    b, t, c = shape.rows, shape.slots, shape.chunks
    zeros = lambda *s: np.zeros((b, *s), np.int32)  # noqa: E731
    batch = Batch(
        tokens=zeros(t, 8), loss_weights=np.zeros((b, t, 8), np.float32), segment_ids=zeros(t),
        positions=zeros(t), direction=zeros(t), mel=np.zeros((b, c, 100, 128), np.float32),
        chunk_frames=zeros(c), chunk_clip=zeros(c), chunk_window=zeros(c), audio_slot=zeros(t) - 1,
    )  # fmt: skip
    for r, documents in enumerate(rows):
        slot = chunk = 0
        for number, document in enumerate(documents, 1):
            n, k = len(document["tokens"]), len(document["mel"])
            span, chunks = (r, slice(slot, slot + n)), (r, slice(chunk, chunk + k))
            batch.tokens[span], batch.loss_weights[span] = document["tokens"], document["weights"]
            batch.segment_ids[span], batch.positions[span] = number, np.arange(n)
            batch.direction[span] = 1 if k else 0
            batch.mel[chunks], batch.chunk_frames[chunks] = document["mel"], 100
            batch.chunk_clip[chunks] = batch.chunk_window[chunks] = number
            batch.audio_slot[r, slot + 1 : slot + 1 + 13 * k] = 13 * chunk + np.arange(13 * k)
            slot, chunk = slot + n, chunk + k
    return batch


def random_rows(seed: int, rows: int = SHAPE.rows) -> list[list[dict]]:
    """Per row one listening document of 24 slots and one of 12 to 22."""
    rng = np.random.default_rng(seed)
    return [[make_document(rng, 24, 1), make_document(rng, int(rng.integers(12, 23)))] for _ in range(rows)]


def make_batch(seed: int) -> Batch:
    return pack(random_rows(seed))


class SyntheticLoader:
    """A loader whose batch is a function of the seed and the step."""

    def __init__(self, seed: int = 0, process_index: int = 0, process_count: int = 1):
        self.seed, self.index, self.count = seed, process_index, process_count

    def batch(self, step: int) -> Batch:
        import jax

        whole = make_batch(1000 * self.seed + step)
        rows = SHAPE.rows // self.count
        return jax.tree.map(lambda x: x[self.index * rows : (self.index + 1) * rows], whole)

    def iterate(self, start_step: int):
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def contents(self, step: int) -> list[list[str]]:
        return [[f"synthetic:{SHAPE.rows * step + row}"] for row in range(SHAPE.rows)]

    def state(self, step: int) -> dict:
        return {"seed": self.seed, "step": step}

    def check(self, state: dict) -> None:
        if state["seed"] != self.seed:
            raise ValueError(f"the checkpoint was made with seed {state['seed']}, this run has {self.seed}")


def with_(config=CONFIG, **changes) -> TrainConfig:
    return dataclasses.replace(config, **changes)
