"""One dialogue inside an engine: what it asked, where it stands, and the pages it holds."""

import dataclasses
from typing import Any

import numpy as np

from bagpiper_jax import vocabulary as v
from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.errors import Explained
from bagpiper_jax.generation import step
from bagpiper_jax.generation.hearing import Windows
from bagpiper_jax.generation.sampling import MODALITIES
from bagpiper_jax.generation.segments import LoopConfig, Segment


class EngineError(Explained, ValueError):
    """A dialogue that an engine cannot answer; the message names the remedy."""


class PoisonedError(Explained, ValueError):
    """A dialogue for which the model gave what is no number; others in the same step are not touched."""


@dataclasses.dataclass(eq=False)
class Request:
    """A dialogue and its state, changed by the engine alone.

    Attributes:
        prompt, config, seed: what was asked.
        tokens: token rows [T, S] that the cache holds before the first step: the prompt's, and those that `begin` adds.
        number: its place in the order of all that were asked; the lower one is the older.
        segments: segments that are whole.
        rows: token rows [S] of the segment that is being made, its terminator included; read-only for others.
        modality: of that segment, None between segments.
        error: what ended the request before its time.
        ended: whether nothing more will come.
        digests: of the whole pages of `tokens`, see `prefixes.digests`.
        fed: how many of `tokens` the cache holds.
        windows: windows of its clips that the tower has yet to hear, and `heard` the features of those before.
        features: [A, D] of all its audio slots in order, once everything is heard.
        token, position, phase, step: as in `step.Rows`.
        pages: its pages; `branch` those of its unconditional branch beyond `shared`, the first pages of what all share.
        shared_needed: slots of what all share that it reads, or is about to copy from.
        behind: the last of `tokens` that its unconditional branch still lacks.
        aside: contents of its pages while it had to make room for others.
    """

    prompt: Rendered
    config: LoopConfig
    seed: int
    number: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)
    rows: list[np.ndarray] = dataclasses.field(default_factory=list)
    modality: str | None = None
    error: Exception | None = None
    ended: bool = False
    tokens: np.ndarray = dataclasses.field(init=False)
    digests: list[bytes] = dataclasses.field(default_factory=list)
    fed: int = 0
    windows: list[Windows] = dataclasses.field(default_factory=list)
    heard: list[np.ndarray] = dataclasses.field(default_factory=list)
    features: np.ndarray | None = None
    token: np.ndarray | None = None
    position: int = 0
    phase: int = step.OPEN
    step: int = 0
    pages: list[int] = dataclasses.field(default_factory=list)
    branch: list[int] = dataclasses.field(default_factory=list)
    shared: int = 0
    shared_needed: int = 0
    behind: int = 0
    aside: tuple[list[Any], list[Any]] | None = None

    def __post_init__(self):
        self.tokens, self.position = self.prompt.tokens, len(self.prompt)
        self.token = np.zeros(self.tokens.shape[1], np.int32)
        self.token[0] = v.ASSISTANT

    def begin(self, ids: np.ndarray) -> None:
        """Opens the first segment with text, as if the model had written these vocabulary ids [n], n > 0.

        They are fed with the prompt, the last one by the first step, and count among the segment's steps: ids beyond
        its longest are left out.

        Raises:
            EngineError: no text comes first.
        """
        if self.config.wanted(0) != MODALITIES.index("text"):
            raise EngineError(
                "a reply that is begun with text needs text first: name it first in LoopConfig.modalities"
            )
        ids = ids[: self.config.text.max_steps]
        opened = np.zeros((2 + len(ids), len(self.token)), np.int32)
        opened[:, 0] = v.ASSISTANT, v.TEXT, *ids
        self.tokens = np.concatenate([self.tokens, opened[:-1]])
        self.token, self.position = opened[-1], len(self.tokens)
        self.modality, self.rows = "text", list(opened[2:])
        self.phase, self.step = step.TEXT, len(ids)
        if self.step == self.config.text.max_steps:
            self._close()
        elif self.config.text.guidance > 1:
            self.phase, self.shared_needed = step.UNGUIDED_TEXT, len(self.prompt) + 1
            self.behind = len(self.tokens) - self.shared_needed

    @property
    def longest(self) -> int:
        """Slots that it may come to need."""
        return len(self.prompt) + self.config.cache_slots

    @property
    def guides(self) -> bool:
        """Whether any of its segments may be guided."""
        wanted = self.config.modalities
        open_ended = self.config.max_segments > len(wanted)
        possible = MODALITIES if open_ended else sorted(set(wanted))
        return any(self.config.sampling(modality).guidance > 1 for modality in possible)

    @property
    def is_fed(self) -> bool:
        return self.fed == len(self.tokens)

    @property
    def waits_for_branch(self) -> bool:
        return self.phase in (step.UNGUIDED_TEXT, step.UNGUIDED_AUDIO)

    @property
    def is_guided(self) -> bool:
        """Whether its segment is being made with an unconditional branch."""
        return bool(self.branch)

    def take(self, drawn: np.ndarray, kind: int) -> None:
        """Takes the tokens [n, S] that a call drew, all of one segment, and decides what follows where it ended."""
        if self.waits_for_branch:
            self.shared_needed = self.position
        if len(drawn):
            self.modality = MODALITIES[kind - step.TEXT]
            self.rows += list(drawn)
        if self.phase == step.POISONED:
            self.end(
                PoisonedError(
                    f"the model's logits for this dialogue are no numbers after {len(self.rows)} rows of segment "
                    f"{len(self.segments)}; look for samples or parameters that are not finite"
                )
            )
        elif self.phase == step.STOPPED:
            self._close()

    def _close(self) -> None:
        last = int(self.rows[-1][0])
        terminator = last if last in (v.EOS, v.EOT) else 0
        kept = self.rows[:-1] if terminator else self.rows
        rows = np.array(kept, np.int32).reshape(-1, len(self.token))
        index = len(self.segments)
        self.segments.append(Segment(self.modality, rows, terminator))
        self.rows, self.modality = [], None
        if self.config.continues(index, terminator):
            self.phase = step.CLOSE
        else:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        self.error, self.ended, self.phase = error, True, step.IDLE
