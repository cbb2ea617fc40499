"""What is asked of the model and what comes back: settings, segments, and the order of segments.

See docs/reference.md, Segment loop.
"""

import dataclasses

import numpy as np
from jaxtyping import Int32

from bagpiper_jax import vocabulary as v
from bagpiper_jax.dialogue import undelay
from bagpiper_jax.generation.sampling import MODALITIES, AudioSampling, SamplingConfig, TextSampling
from bagpiper_jax.vocabulary import Vocabulary

_FRAME_ROWS = 2  # role and modality marker; a cut segment's last token counts among its steps


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
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise ValueError(
                f"unknown modalities {', '.join(sorted(unknown))}; known: {', '.join(MODALITIES)}"
            )
        if self.max_segments < max(1, len(self.modalities)):
            raise ValueError(f"max_segments must be at least {max(1, len(self.modalities))}")

    @property
    def cache_slots(self) -> int:
        """Slots that the segments of one prompt may need."""
        chosen = [self.sampling(modality).max_steps for modality in self.modalities]
        chosen += [max(self.text.max_steps, self.audio.max_steps)] * (self.max_segments - len(chosen))
        return sum(steps + _FRAME_ROWS for steps in chosen)

    def sampling(self, modality: str) -> SamplingConfig:
        return self.text if modality == "text" else self.audio

    def wanted(self, segment: int) -> int:
        """The enforced modality of a segment as its place in `MODALITIES`, or -1 where the model chooses."""
        return MODALITIES.index(self.modalities[segment]) if segment < len(self.modalities) else -1

    def continues(self, segment: int, terminator: int) -> bool:
        """Whether another segment follows one that ended so."""
        more = terminator == v.EOT or segment + 1 < len(self.modalities)
        return more and segment + 1 < self.max_segments


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
