"""Prompts of different lengths as one batch of fixed shape."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import Batch, BatchShape, empty_batch
from bagpiper_jax.data.placing import RowWriter
from bagpiper_jax.data.records import num_chunks
from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.models.configs import BagpiperConfig

_SLOT_STEP, _CHUNK_STEP = 64, 2


def fitting_shape(prompts: Sequence[Rendered], rows: int, mel_bins: int = 128) -> BatchShape:
    """The smallest shape that holds every prompt, rounded up so that few shapes are ever compiled."""
    slots = max(len(prompt) for prompt in prompts)
    chunks = max(sum(num_chunks(len(span.samples)) for span in prompt.audio) for prompt in prompts)
    return BatchShape(rows, _rounded(slots, _SLOT_STEP), _rounded(chunks, _CHUNK_STEP), mel_bins)


def collate(prompts: Sequence[Rendered], shape: BatchShape, config: BagpiperConfig) -> Batch:
    """One prompt per row, starting at slot 0; missing rows repeat the last prompt, so nothing new compiles.

    Raises:
        ValueError: more prompts than rows, or a prompt that doesn't fit the shape.
    """
    if not 0 < len(prompts) <= shape.rows:
        raise ValueError(f"{len(prompts)} prompts for {shape.rows} rows")
    longest = max(map(len, prompts))
    if longest > shape.slots:
        raise ValueError(f"a prompt of {longest} rows doesn't fit {shape.slots} slots; shorten it")
    batch = empty_batch(shape.rows, shape, config.vocabulary.num_streams)
    features = [[log_mel(span.samples) for span in prompt.audio] for prompt in prompts]
    for row in range(shape.rows):
        number = min(row, len(prompts) - 1)
        prompt = dataclasses.replace(prompts[number], loss_weights=np.zeros(prompts[number].tokens.shape))
        writer = RowWriter(batch, row, config.tower.window_chunks)
        writer.place(prompt, len(prompt), 0, features[number])
    return batch


def _rounded(size: int, step: int) -> int:
    return -(-size // step) * step
