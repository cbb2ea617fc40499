"""Examples and rows as a reader wants them: what was said, beside the very arrays that the model is given."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from bagpiper_jax import dialogue
from bagpiper_jax.audio import CHUNK_TOKENS, log_mel
from bagpiper_jax.batch import Batch, empty_batch
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.planner import Planned
from bagpiper_jax.data.records import Record
from bagpiper_jax.errors import Explained
from bagpiper_jax.text import TextTokenizer
from bagpiper_jax.vocabulary import Vocabulary

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Said:
    """One message: `text`, or `samples` (16 kHz) that are heard, or `codes` [N, S] that are generated.

    Attributes:
        weight: loss weight of the message.
        span: half-open range of slots within the example, role token to terminator.
        dropped: the model does not see it, by CFG dropout.
    """

    role: str
    modality: str
    weight: float
    span: tuple[int, int]
    text: str | None = None
    samples: np.ndarray | None = None
    codes: np.ndarray | None = None
    dropped: bool = False


@dataclasses.dataclass(frozen=True)
class Shown:
    """One example as the model is given it.

    Attributes:
        task, epoch, index: the place it comes from; `id` names the clip.
        variant, variants: the number of the record's variant, and the number of variants.
        messages: empty for a damaged record.
        fault: a description of what is wrong with a damaged record, else "".
        tokens, loss_weights: the example's slots.
        mels: log-mel features of each clip it listens to, as the audio tower gets them.
    """

    task: str
    epoch: int
    index: int
    id: str
    messages: tuple[Said, ...]
    fault: str
    tokens: Int32[np.ndarray, "T S"]
    loss_weights: Float32[np.ndarray, "T S"]
    mels: tuple[np.ndarray, ...]
    variant: int = 0
    variants: int = 1

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def targets(self) -> int:
        """Slots with loss on stream 0."""
        return int((self.loss_weights[:, 0] > 0).sum())

    @property
    def clips(self) -> int:
        """Clips that it listens to."""
        return len(self.mels)

    @property
    def which(self) -> str:
        """ ", variant 1 of 3", or "" where there is one."""
        return f", variant {self.variant + 1} of {self.variants}" if self.variants > 1 else ""

    @property
    def is_dropped(self) -> bool:
        return any(message.dropped for message in self.messages)


@dataclasses.dataclass(frozen=True)
class ShownRow:
    """One packed row: its examples in order, and the row of the batch."""

    title: str
    examples: tuple[Shown, ...]
    batch: Batch

    @property
    def slots(self) -> tuple[int, int]:
        """In use, and all."""
        return int((self.batch.segment_ids[0] > 0).sum()), self.batch.segment_ids.shape[1]

    @property
    def chunks(self) -> tuple[int, int]:
        """In use, and all."""
        return int((self.batch.chunk_frames[0] > 0).sum()), self.batch.chunk_frames.shape[1]

    @property
    def clips(self) -> int:
        return int(self.batch.chunk_clip[0].max(initial=0))


def show_record(
    record: Record,
    task: str,
    index: int,
    tokenizer: TextTokenizer,
    vocabulary: Vocabulary,
    render: dialogue.RenderConfig,
    variant: int = 0,
) -> Shown:
    """A variant of a cached example on its own, rendered without CFG dropout.

    Raises:
        RecordError: its audio is damaged.
        DialogueError: it cannot be rendered.
    """
    messages = record.messages(variant=variant)
    rendered = dialogue.render(messages, vocabulary, render)
    return Shown(
        task=task,
        epoch=0,
        index=index,
        id=record.id,
        messages=_said(messages, rendered, rendered.tokens, tokenizer),
        fault="",
        tokens=rendered.tokens,
        loss_weights=rendered.loss_weights,
        mels=tuple(log_mel(span.samples) for span in rendered.audio),
        variant=variant,
        variants=record.variants,
    )


def show_row(loader: Loader, planned: Planned, title: str, tokenizer: TextTokenizer) -> ShownRow:
    """One row, filled by the code that fills it for training; damaged records are named."""
    batch = empty_batch(1, loader.shape, loader.vocabulary.num_streams)
    loader.rows.fill(batch, 0, planned)
    examples, slot = [], 0
    columns = (planned.task, planned.epoch, planned.index, planned.variant, planned.length)
    for task, epoch, index, variant, length in zip(*(c.tolist() for c in columns), strict=True):
        here = slice(slot, slot + length)
        examples.append(_example(loader, batch, here, task, epoch, index, variant, tokenizer))
        slot += length
    return ShownRow(title, tuple(examples), batch)


def _example(loader: Loader, batch: Batch, here: slice, task, epoch, index, variant, tokenizer) -> Shown:
    tokens, weights = batch.tokens[0, here], batch.loss_weights[0, here]
    name, variants, fault = "", 1, ""
    messages: tuple[Said, ...] = ()
    try:
        record = loader.caches[task].read(index)
        name, variants, said = record.id, record.variants, record.messages(variant=variant)
        rendered = dialogue.render(said, loader.vocabulary, _plain(loader))
        if len(rendered) != len(tokens):
            fault = f"renders to {len(rendered)} slots, the index says {len(tokens)}"
        elif not tokens.any():
            fault = "its slots stayed empty"
        else:
            messages = _said(said, rendered, tokens, tokenizer)
    except Explained as error:
        fault = str(error)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        _log.debug("record %d of %s cannot be shown", index, loader.task_names[task], exc_info=error)
    return Shown(
        loader.task_names[task], epoch, index, name, messages, fault, tokens, weights, _mels(batch, here),
        variant, variants,
    )  # fmt: skip


def _plain(loader: Loader) -> dialogue.RenderConfig:
    return dialogue.RenderConfig(stream_weights=(1.0,) * loader.vocabulary.num_streams)


def _said(
    messages: Sequence[dialogue.Message], rendered: dialogue.Rendered, tokens: np.ndarray, tokenizer
) -> tuple[Said, ...]:
    """Messages of an example; those whose role token is missing from `tokens` were dropped."""
    found = []
    for message, span in zip(messages, rendered.spans, strict=True):
        content = {"text": tokenizer.decode(message.content)} if message.modality == "text" else {}
        content |= {"codes": message.content} if message.is_codec else {}
        content |= {"samples": message.content} if message.is_continuous else {}
        dropped = not tokens[span[0], 0]
        found.append(Said(message.role, message.modality, message.weight, span, dropped=dropped, **content))
    return tuple(found)


def _mels(batch: Batch, here: slice) -> tuple[np.ndarray, ...]:
    """Features of the clips that some slots listen to, [F, M] each, chunks joined."""
    slots = batch.audio_slot[0, here]
    chunks = np.unique(slots[slots >= 0] // CHUNK_TOKENS)
    found = []
    for clip in np.unique(batch.chunk_clip[0, chunks]):
        mine = chunks[batch.chunk_clip[0, chunks] == clip]
        parts = [batch.mel[0, c, : batch.chunk_frames[0, c]] for c in mine]
        found.append(np.concatenate(parts))
    return tuple(found)
