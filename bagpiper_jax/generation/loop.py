"""From prompts to messages: the segment loop over a batch (docs/reference.md, Segment loop)."""

import dataclasses
import logging
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int32

from bagpiper_jax import vocabulary as v
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.prompts import collate, fitting_shape
from bagpiper_jax.dialogue import Rendered, undelay
from bagpiper_jax.generation.sampling import AudioSampling, SamplingConfig, TextSampling
from bagpiper_jax.generation.segments import decode_segment, open_message, prefill
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.vocabulary import Vocabulary

_MODALITIES = ("text", "audio")
_FRAME_ROWS = 2  # role and modality marker; a cut segment's last token counts among its steps
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How messages are generated; the defaults are the release's (docs/reference.md, Sampling settings).

    Attributes:
        text, audio: sampling per modality.
        modalities: enforced modalities of the segments in order; empty lets the model choose each.
        max_segments: segments after which generation stops, whatever their terminators.
        seed: the seed that every prompt starts from, so that its result doesn't depend on its place in a batch.
    """

    text: TextSampling = TextSampling()
    audio: AudioSampling = AudioSampling()
    modalities: tuple[str, ...] = ()
    max_segments: int = 2
    seed: int = 42

    def __post_init__(self):
        unknown = set(self.modalities) - set(_MODALITIES)
        if unknown:
            raise ValueError(
                f"unknown modalities {', '.join(sorted(unknown))}; known: {', '.join(_MODALITIES)}"
            )
        if self.max_segments < max(1, len(self.modalities)):
            raise ValueError(f"max_segments must be at least {max(1, len(self.modalities))}")

    @property
    def cache_slots(self) -> int:
        """Slots that the segments of one prompt may need."""
        longest = max(self.text.max_steps, self.audio.max_steps)
        chosen = [getattr(self, modality).max_steps for modality in self.modalities]
        chosen += [longest] * (self.max_segments - len(chosen))
        # Rows that have ended go on writing, into one more slot.
        return sum(steps + _FRAME_ROWS for steps in chosen) + 1


@dataclasses.dataclass(frozen=True)
class Segment:
    """One generated message: its rows without the terminator, and whether it ended by itself."""

    modality: str
    rows: Int32[np.ndarray, "T S"]
    terminator: int

    def text_ids(self, vocabulary: Vocabulary) -> np.ndarray:
        """Tokenizer ids [n] of a text segment."""
        return vocabulary.ids_to_text(self.rows[:, 0])

    def codes(self, vocabulary: Vocabulary) -> np.ndarray:
        """Codes [N, S] of an audio segment; fewer than S rows hold no frame and give N = 0."""
        return vocabulary.ids_to_codes(undelay(self.rows))


def generate(
    model: Bagpiper,
    prompts: Sequence[Rendered],
    config: LoopConfig,
    rows: int | None = None,
    seeds: Sequence[int] | None = None,
    begun: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Segment, ...]]:
    """Generates the assistant's messages for every prompt.

    Args:
        model: the model.
        prompts: rendered prompts (`dialogue.render_prompt`).
        config: sampling and enforced modalities.
        rows: prompts decoded at once; None decodes all together.
        seeds: a seed for each prompt instead of `config.seed`.
        begun: for each prompt the tokenizer ids that its first text segment begins with, where that is the first
            segment; none may be given. They count among the segment's steps.

    Returns:
        per prompt its segments in order.
    """
    if not prompts:
        return []
    shape = fitting_shape(prompts, min(rows or len(prompts), len(prompts)), model.config.tower.mel_bins)
    seeds = [config.seed] * len(prompts) if seeds is None else list(seeds)
    begun = [()] * len(prompts) if begun is None else begun
    graph, parameters = nnx.split(model)
    found = []
    for start in range(0, len(prompts), shape.rows):
        part = slice(start, start + shape.rows)
        found += _generate_batch(
            graph, parameters, model.config, prompts[part], seeds[part], begun[part], config, shape
        )
        _log.debug("generated %d of %d", len(found), len(prompts))
    return found


def _generate_batch(
    graph, parameters, model_config, prompts, seeds, begun, config: LoopConfig, shape: BatchShape
):
    batch = collate(prompts, shape, model_config)
    seeds = np.asarray([*seeds] + [seeds[-1]] * (shape.rows - len(seeds)), np.uint32)
    keys = jax.vmap(jax.random.key)(seeds)
    cache = prefill(graph, parameters, batch, shape.slots + config.cache_slots)
    active, segments = np.arange(shape.rows) < len(prompts), [[] for _ in prompts]
    for index in range(config.max_segments):
        cache, scores = open_message(graph, parameters, cache, active)
        wanted = _modalities(config, index, scores)
        ended = np.zeros(shape.rows, np.int32)
        for number, modality in enumerate(_MODALITIES):
            chosen = active & (wanted == number)
            if not chosen.any():
                continue
            segment_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
            sampler: SamplingConfig = getattr(config, modality)
            given = None
            if modality == "text":
                ids = begun if index == 0 else ()
                given = _given(ids, shape.rows, sampler.max_steps, model_config.vocabulary)
            cache, segment = decode_segment(
                graph, parameters, cache, chosen, segment_keys, modality, sampler, given
            )
            ended = np.where(chosen, segment.terminator, ended)
            _collect(segments, segment, chosen, modality)
        active = active & ((ended == v.EOT) | (index + 1 < len(config.modalities)))
        if not active.any():
            break
    return [tuple(row) for row in segments]


def _given(begun, rows: int, steps: int, vocabulary: Vocabulary) -> Int32[np.ndarray, "B T"]:
    """The ids that the rows of a text segment begin with, -1 where the model goes on."""
    given = np.full((rows, steps), -1, np.int32)
    for row, ids in enumerate(begun):
        ids = vocabulary.text_to_ids(np.asarray(ids[:steps], np.int32))
        given[row, : len(ids)] = ids
    return given


def _modalities(config: LoopConfig, index: int, scores) -> np.ndarray:
    """Per row, the index of the next segment's modality: enforced, else the more likely marker."""
    if index < len(config.modalities):
        return np.full(len(scores), _MODALITIES.index(config.modalities[index]))
    return np.asarray(jnp.argmax(scores, axis=-1))


def _collect(segments: list, batch, chosen: np.ndarray, modality: str) -> None:
    rows, lengths, ends = np.asarray(batch.rows), np.asarray(batch.length), np.asarray(batch.terminator)
    for row in np.flatnonzero(chosen[: len(segments)]):
        kept = lengths[row] - (ends[row] != 0)
        segments[row].append(Segment(modality, rows[row, :kept], int(ends[row])))
