"""Small random models and batches for tests, and the passage of our parameters into the originals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bagpiper_jax.batch import Batch
from bagpiper_jax.interop.tables.grammar import to_theirs
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.models.parameters import flatten
from bagpiper_jax.vocabulary import Vocabulary

DECODER = DecoderConfig(
    layers=3,
    width=32,
    ffn_width=56,
    heads=4,
    kv_heads=2,
    head_width=16,
    init_std=0.2,
    dtype="float32",
    remat="none",
)
TOWER = AudioTowerConfig(
    mel_bins=20, layers=2, width=32, heads=4, ffn_width=48, conv_channels=6, output_width=24, dtype="float32",
    remat="none",
)  # fmt: skip
MODEL = BagpiperConfig(DECODER, TOWER, Vocabulary(text_size=40, codebook_size=6))


def random_model(config: BagpiperConfig = MODEL, seed: int = 0) -> Bagpiper:
    """A model whose norms, biases and stream embeddings are no longer ones and zeros, so that each one counts."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: Bagpiper(config, rngs=nnx.Rngs(0))))
    return nnx.merge(graph, _random_state(config, seed))


@functools.cache
def _random_state(config: BagpiperConfig, seed: int):
    def make():
        keys = iter(jax.random.split(jax.random.key(seed + 1), 200))
        state = nnx.state(Bagpiper(config, rngs=nnx.Rngs(seed)))
        return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), state)

    return jax.jit(make)()


def parameters(model: nnx.Module) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in flatten(nnx.to_pure_dict(nnx.state(model))).items()}


def load(original, entries, ours: dict[str, np.ndarray]):
    """The torch module with our parameters, every tensor of it set."""
    import torch

    original.load_state_dict(
        {n: torch.from_numpy(x.copy()) for n, x in to_theirs(entries, ours)}, strict=True
    )
    return original.eval()


def chunked(clips: list[np.ndarray], window_chunks: int = 8, spare: int = 0) -> dict[str, np.ndarray]:
    """Mel [F, M] of clips as one row of the Batch's mel, chunk_frames, chunk_clip and chunk_window."""
    mel, frames, owner, window, windows = [], [], [], [], 0
    for index, clip in enumerate(clips):
        for start in range(0, len(clip), 100):
            piece = clip[start : start + 100]
            windows += start % (100 * window_chunks) == 0
            mel.append(np.pad(piece, ((0, 100 - len(piece)), (0, 0))))
            frames.append(len(piece))
            owner.append(index + 1)
            window.append(windows)
    padded = [np.pad(np.asarray(x, np.int32), (0, spare))[None] for x in (frames, owner, window)]
    mel = np.pad(np.stack(mel), ((0, spare), (0, 0), (0, 0)))[None].astype(np.float32)
    return dict(zip(("mel", "chunk_frames", "chunk_clip", "chunk_window"), (mel, *padded), strict=True))


def random_batch(config: BagpiperConfig = MODEL, rows: int = 8, slots: int = 24, chunks: int = 2) -> Batch:
    """Two documents and padding per row; the first holds one clip of 120 frames."""
    random = np.random.default_rng(0)
    lengths = (slots // 2, slots // 4)
    segments = np.repeat([1, 2, 0], [*lengths, slots - sum(lengths)])
    positions = np.concatenate([np.arange(n) for n in (*lengths, slots - sum(lengths))])
    tokens = random.integers(0, config.vocabulary.size, (slots, config.vocabulary.num_streams))
    audio = np.full(slots, -1)
    audio[2 : 2 + 9] = [0, 1, 2, 5, 8, 12, 13, 14, 15]
    tokens[audio >= 0] = 0
    tokens[:, 3] *= random.integers(0, 2, slots)
    clip = chunked([random.normal(size=(120, config.tower.mel_bins))], spare=chunks - 2)

    def tiled(x, dtype=jnp.int32):
        return jnp.tile(jnp.asarray(x, dtype)[None], (rows, *[1] * np.ndim(x)))

    weights = tiled(segments[:, None] * np.ones(8) != 0, jnp.float32)
    return Batch(
        tokens=tiled(tokens),
        loss_weights=weights,
        segment_ids=tiled(segments),
        positions=tiled(positions),
        direction=tiled(np.zeros(slots)),
        mel=tiled(clip["mel"][0], jnp.float32) * (1 + jnp.arange(rows)[:, None, None, None] / 10),
        chunk_frames=tiled(clip["chunk_frames"][0]),
        chunk_clip=tiled(clip["chunk_clip"][0]),
        chunk_window=tiled(clip["chunk_window"][0]),
        audio_slot=tiled(audio),
    )
