"""Prompts of different lengths as one batch of fixed shape."""

from collections.abc import Sequence as Seq

import numpy as np

from bagpiper_jax.audio import CHUNK_FRAMES, CHUNK_TOKENS, log_mel, mel_frames, tower_tokens
from bagpiper_jax.data.batch import Batch, BatchShape
from bagpiper_jax.dialogue import AudioSpan, Sequence
from bagpiper_jax.models.configs import BagpiperConfig

_SLOT_STEP, _CHUNK_STEP = 64, 2


def fitting_shape(prompts: Seq[Sequence], rows: int, mel_bins: int = 128) -> BatchShape:
    """The smallest shape that holds every prompt, rounded up so that few shapes are ever compiled."""
    slots = max(len(prompt) for prompt in prompts)
    chunks = max(sum(map(_num_chunks, prompt.audio)) for prompt in prompts)
    return BatchShape(rows, _rounded(slots, _SLOT_STEP), _rounded(chunks, _CHUNK_STEP), mel_bins)


def collate(prompts: Seq[Sequence], shape: BatchShape, config: BagpiperConfig) -> Batch:
    """One prompt per row, starting at slot 0; missing rows repeat the last prompt, so nothing new compiles.

    Raises:
        ValueError: more prompts than rows, or a prompt that doesn't fit the shape.
    """
    if not 0 < len(prompts) <= shape.rows:
        raise ValueError(f"{len(prompts)} prompts for {shape.rows} rows")
    rows = [_row(prompt, shape, config) for prompt in prompts]
    rows += [rows[-1]] * (shape.rows - len(rows))
    return Batch(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _row(prompt: Sequence, shape: BatchShape, config: BagpiperConfig) -> dict[str, np.ndarray]:
    length, slots = len(prompt), np.arange(shape.slots, dtype=np.int32)
    if length > shape.slots:
        raise ValueError(f"a prompt of {length} rows doesn't fit {shape.slots} slots; shorten it")
    tokens = np.zeros((shape.slots, config.vocabulary.num_streams), np.int32)
    tokens[:length] = prompt.tokens
    return {
        "tokens": tokens,
        "loss_weights": np.zeros(tokens.shape, np.float32),
        "segment_ids": (slots < length).astype(np.int32),
        "positions": slots,
        "direction": np.zeros_like(slots),
        **_audio(prompt.audio, shape, config.tower.window_chunks),
    }


def _audio(spans: Seq[AudioSpan], shape: BatchShape, window_chunks: int) -> dict[str, np.ndarray]:
    """Mel chunks of a row's clips and where their tower features are written."""
    mel = np.zeros((shape.chunks, CHUNK_FRAMES, shape.mel_bins), np.float32)
    frames, clip, window = np.zeros((3, shape.chunks), np.int32)
    slot = np.full(shape.slots, -1, np.int32)
    start = windows = 0
    for number, span in enumerate(spans, 1):
        features, count = log_mel(span.samples), _num_chunks(span)
        mel[start : start + count].reshape(-1, shape.mel_bins)[: len(features)] = features
        index = np.arange(count)
        frames[start : start + count] = np.minimum(CHUNK_FRAMES, len(features) - CHUNK_FRAMES * index)
        clip[start : start + count] = number
        window[start : start + count] = windows + 1 + index // window_chunks
        tokens = tower_tokens(len(features))
        slot[span.start : span.start + tokens] = start * CHUNK_TOKENS + np.arange(tokens)
        start, windows = start + count, windows + -(-count // window_chunks)
    return {
        "mel": mel, "chunk_frames": frames, "chunk_clip": clip, "chunk_window": window, "audio_slot": slot,
    }  # fmt: skip


def _rounded(size: int, step: int) -> int:
    return -(-size // step) * step


def _num_chunks(span: AudioSpan) -> int:
    return -(-mel_frames(len(span.samples)) // CHUNK_FRAMES)
