"""Writing rendered examples into the arrays of a batch: the one place that lays out slots, chunks and windows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bagpiper_jax.audio import CHUNK_FRAMES, CHUNK_TOKENS
from bagpiper_jax.batch import Batch
from bagpiper_jax.dialogue import CORRUPT, Rendered

WINDOW_CHUNKS = 8
"""`n_window_infer` 800 of the release, in chunks (docs/reference.md, Audio tower)."""


class RowWriter:
    """Places examples one behind the other in a row.

    Args:
        batch: zeroed arrays, see `empty_batch`.
        row: of the batch.
        window_chunks: chunks per attention window of the audio tower that will listen.
    """

    def __init__(self, batch: Batch, row: int, window_chunks: int = WINDOW_CHUNKS):
        self._window_chunks = window_chunks
        self._arrays = {f.name: getattr(batch, f.name)[row] for f in dataclasses.fields(batch)}
        self._slot = self._segment = self._chunk = self._clip = self._window = 0

    def place(
        self, rendered: Rendered | None, length: int, direction: int, mels: Sequence[np.ndarray]
    ) -> None:
        """Writes the next example.

        Args:
            rendered: the example, or None to leave its slots empty, marked as `CORRUPT`.
            length: slots that it takes.
            direction: index in `dialogue.DIRECTIONS`.
            mels: log-mel features [F, M] of each clip that it listens to.
        """
        here = slice(self._slot, self._slot + length)
        self._segment += 1
        self._arrays["segment_ids"][here] = self._segment
        self._arrays["positions"][here] = np.arange(length)
        self._arrays["direction"][here] = CORRUPT if rendered is None else direction
        if rendered is not None:
            self._arrays["tokens"][here] = rendered.tokens
            self._arrays["loss_weights"][here] = rendered.loss_weights
            for span, mel in zip(rendered.audio, mels, strict=True):
                self._place_audio(self._slot + span.start, span.num_tokens, mel)
        self._slot += length

    def _place_audio(self, slot: int, tokens: int, mel: np.ndarray) -> None:
        self._arrays["audio_slot"][slot : slot + tokens] = self._chunk * CHUNK_TOKENS + np.arange(tokens)
        self._clip += 1
        count = -(-len(mel) // CHUNK_FRAMES)
        here = slice(self._chunk, self._chunk + count)
        number = np.arange(count)
        self._arrays["mel"][here].reshape(-1, mel.shape[1])[: len(mel)] = mel
        self._arrays["chunk_frames"][here] = np.minimum(CHUNK_FRAMES, len(mel) - CHUNK_FRAMES * number)
        self._arrays["chunk_clip"][here] = self._clip
        self._arrays["chunk_window"][here] = self._window + 1 + number // self._window_chunks
        self._window += -(-count // self._window_chunks)
        self._chunk += count
