"""What a codec is to everything that uses one: waveforms ↔ codes, and what vocabularies and stores must know."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int

Waveform = Float32[np.ndarray, " samples"]
Codes = Int[np.ndarray, "N S"]


class Codec(Protocol):
    """A codec whose codes of a clip depend on that clip alone, whatever is encoded with it.

    Attributes:
        sample_rate: of waveforms, in Hz.
        hop: samples per frame.
        codebooks: how many codes each of the S codebooks has.
        context: frames to either side of a frame on which its samples depend, and on no others.
        fingerprint: a name of what the codec computes; equal codecs have equal ones, whatever file they lie in.
    """

    @property
    def sample_rate(self) -> int: ...

    @property
    def hop(self) -> int: ...

    @property
    def codebooks(self) -> tuple[int, ...]: ...

    @property
    def context(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, waveforms: Sequence[Waveform], batch_seconds: float = 0.0) -> list[Codes]:
        """Codes of every waveform, of its whole frames.

        Args:
            waveforms: mono, in [-1, 1].
            batch_seconds: sound encoded at once on each device, padding included; 0 encodes one clip after the other.
        """
        ...

    def decode(self, codes: Sequence[Codes]) -> list[Waveform]:
        """Waveforms in [-1, 1], `hop` samples for each frame. Raises ValueError for what are no codes."""
        ...
