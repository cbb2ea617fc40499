"""From planned examples to the arrays of a row: read, render, drop conditions, place. Pure numpy."""

import logging
import threading
from collections.abc import Sequence

import numpy as np

from bagpiper_jax import dialogue
from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import Batch
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.placing import WINDOW_CHUNKS, RowWriter
from bagpiper_jax.data.planner import Planned
from bagpiper_jax.data.shuffle import draw, stable_hash
from bagpiper_jax.dialogue import RenderConfig, Rendered
from bagpiper_jax.errors import Explained
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.vocabulary import ASSISTANT, AUDIO, Vocabulary

_log = logging.getLogger(__name__)


class RowMaker:
    """Fills rows of a batch from the caches. Thread-safe.

    Args:
        caches: one per task of the plan.
        names: names of those tasks.
        seed, cfg_dropout: of classifier-free-guidance dropout (docs/reference.md, Guidance dropout).
        max_corrupt: so many damaged records are served as empty slots, with one more serving stops.
        feature_cache_mb: MiB of mel features kept in memory between epochs.
        window_chunks: chunks per attention window of the audio tower.
    """

    def __init__(
        self,
        caches: Sequence[TaskCache],
        names: Sequence[str],
        vocabulary: Vocabulary,
        render: RenderConfig,
        seed: int,
        cfg_dropout: float,
        max_corrupt: int = 100,
        feature_cache_mb: int = 0,
        window_chunks: int = WINDOW_CHUNKS,
    ):
        self._caches, self._names = tuple(caches), tuple(names)
        self._vocabulary, self._render = vocabulary, render
        self._cfg_dropout, self._max_corrupt = cfg_dropout, max_corrupt
        self._keys = [stable_hash("cfg_dropout", seed, name) for name in names]
        self._lock = threading.Lock()
        self._features: dict[tuple[int, int, int], list[np.ndarray]] = {}  # by task, record and variant
        self._feature_bytes_left = feature_cache_mb << 20
        self._window_chunks = window_chunks
        self.damaged: dict[str, str] = {}
        """`<task>:<record>` → what is wrong with it, of every damaged record met so far."""

    def fill(self, batch: Batch, row: int, planned: Planned) -> None:
        """Writes the examples of one row into the zeroed arrays of `batch`."""
        writer = RowWriter(batch, row, self._window_chunks)
        columns = (planned.task, planned.epoch, planned.index, planned.variant, planned.length)
        for task, epoch, index, variant, length in zip(*(c.tolist() for c in columns), strict=True):
            known = self._features.get((task, index, variant))
            rendered = self.example(task, epoch, index, length, variant, decode_audio=known is None)
            direction = int(self._caches[task].index["direction"][index])
            heard = rendered is not None and rendered.audio
            mels = (known or self._make_features((task, index, variant), rendered)) if heard else []
            writer.place(rendered, length, direction, mels)

    def _make_features(self, example: tuple[int, int, int], rendered: Rendered) -> list[np.ndarray]:
        """Log-mel features of an example's clips; the first ones to come stay in memory.

        Nothing is evicted: a run walks the data in cycles, where dropping the oldest would never score a hit.
        """
        mels = [log_mel(span.samples) for span in rendered.audio]
        size = sum(mel.nbytes for mel in mels)
        with self._lock:
            if size <= self._feature_bytes_left and example not in self._features:
                self._feature_bytes_left -= size
                self._features[example] = mels
        return mels

    def example(
        self, task: int, epoch: int, index: int, length: int, variant: int = 0, decode_audio: bool = True
    ) -> Rendered | None:
        """One rendered example, with dropout drawn for its epoch; None if its record is damaged.

        Args:
            length: slots that the plan gave it.
            variant: which of the record's variants.
            decode_audio: False leaves waveforms zero, for a caller who has their features already.

        Raises:
            RecordError: more than `max_corrupt` records were damaged.
        """
        try:
            messages = self._caches[task].read(index, decode_audio).messages(decode_audio, variant)
            rendered = dialogue.render(messages, self._vocabulary, self._render)
            if len(rendered) != length:
                raise RecordError(
                    "corrupt_record", f"renders to {len(rendered)} slots, the index says {length}"
                )
        except Exception as error:  # whatever a record does, it costs its slots and no more
            self._note_damage(task, index, error)
            return None
        kept = self._kept_message(rendered, task, epoch, index)
        return rendered if kept is None else dialogue.drop_condition(rendered, kept)

    def _kept_message(self, rendered: Rendered, task: int, epoch: int, index: int) -> int | None:
        """The message to keep if this example drops its condition, by a draw that only its place decides."""
        if self._cfg_dropout == 0:
            return None
        if draw(self._keys[task], epoch, index, 0) >= self._cfg_dropout:
            return None
        generated = [i for i, (start, _) in enumerate(rendered.spans) if _is_generated(rendered, start)]
        chosen = int(draw(self._keys[task], epoch, index, 1) * len(generated))
        return generated[chosen] if generated else None

    def _note_damage(self, task: int, index: int, error: Exception) -> None:
        """Names a damaged record once; how often one is met stands in the batches (`dialogue.CORRUPT`)."""
        place = f"{self._names[task]}:{index}"
        fault = str(error) if isinstance(error, Explained) else f"{type(error).__name__}: {error}"
        with self._lock:
            known = place in self.damaged
            self.damaged[place] = fault
        if not known:
            _log.error("%s is damaged, its slots stay empty: %s", place, fault)
            _log.debug("%s", place, exc_info=error)
        if len(self.damaged) > self._max_corrupt:
            raise RecordError(
                "corrupt_record",
                f"{len(self.damaged)} damaged records; the last, {place}: {fault}; cache again",
            )


def _is_generated(rendered: Rendered, start: int) -> bool:
    """Whether the message at `start` is an assistant's codec audio."""
    return tuple(rendered.tokens[start : start + 2, 0]) == (ASSISTANT, AUDIO)
