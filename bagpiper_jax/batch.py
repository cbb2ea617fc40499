"""The batch: the one pytree that walks from the loader into the train step. Fixed shapes, no recompilation."""

import dataclasses
from typing import Any

import jax
import numpy as np

from bagpiper_jax.audio import CHUNK_FRAMES
from bagpiper_jax.dialogue import CORRUPT

Array = Any  # numpy on the host, jax.Array on the mesh


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """B packed rows of T slots.

    Attributes:
        tokens: int32 [B, T, S]; zeros where padded or where audio features are written.
        loss_weights: float32 [B, T, S]; weight of predicting slot t from slot t-1, class weights included.
        segment_ids: int32 [B, T]; 1, 2, … per document of the row, 0 for padding.
        positions: int32 [B, T]; restart at 0 with every document.
        direction: int32 [B, T]; index of the slot's task group (`dialogue.DIRECTIONS`), for metrics only;
            -1 (`dialogue.CORRUPT`) where an example stands empty because its record is damaged.
        mel: float32 [B, C, 100, M]; chunks of 100 mel frames, tails zero-padded.
        chunk_frames: int32 [B, C]; valid mel frames of a chunk, 0 for padding chunks.
        chunk_clip: int32 [B, C]; 1, 2, … per clip of the row, 0 for padding.
        chunk_window: int32 [B, C]; 1, 2, … per attention window of the row (a window never spans clips),
            0 for padding.
        audio_slot: int32 [B, T]; index into the row's tower output [C·13], -1 where no audio is written.
    """

    tokens: Array
    loss_weights: Array
    segment_ids: Array
    positions: Array
    direction: Array
    mel: Array
    chunk_frames: Array
    chunk_clip: Array
    chunk_window: Array
    audio_slot: Array

    @property
    def corrupt_examples(self) -> Array:
        """int32 [], examples that stand empty because their record is damaged."""
        return ((self.direction == CORRUPT) & (self.positions == 0)).sum(dtype="int32")


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Static sizes of a batch.

    Attributes:
        rows: B, global rows per optimizer step.
        slots: T, slots per row.
        chunks: C, audio chunks per row.
        mel_bins: M.
    """

    rows: int
    slots: int
    chunks: int
    mel_bins: int = 128

    def __post_init__(self):
        if min(self.rows, self.slots, self.mel_bins) < 1 or self.chunks < 0:
            raise ValueError("rows, slots and mel_bins must be at least 1, chunks at least 0")


def empty_batch(rows: int, shape: BatchShape, num_streams: int) -> Batch:
    """All padding: zero tokens and weights, segment 0, no audio."""
    slots, chunks = (rows, shape.slots), (rows, shape.chunks)
    return Batch(
        tokens=np.zeros((*slots, num_streams), np.int32),
        loss_weights=np.zeros((*slots, num_streams), np.float32),
        segment_ids=np.zeros(slots, np.int32),
        positions=np.zeros(slots, np.int32),
        direction=np.zeros(slots, np.int32),
        mel=np.zeros((*chunks, CHUNK_FRAMES, shape.mel_bins), np.float32),
        chunk_frames=np.zeros(chunks, np.int32),
        chunk_clip=np.zeros(chunks, np.int32),
        chunk_window=np.zeros(chunks, np.int32),
        audio_slot=np.full(slots, -1, np.int32),
    )
