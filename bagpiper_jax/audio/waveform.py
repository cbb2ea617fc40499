"""The first channel of a sound as its decoder gives it, gathered within a limit."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio.faults import Damage, TooLong


@dataclasses.dataclass(frozen=True)
class Waveform:
    """The first channel of a sound.

    Attributes:
        samples: full scale is 1.
        rate: samples a second.
        channels: how many the sound has.
    """

    samples: Float32[np.ndarray, "samples"]
    rate: int
    channels: int


class Gathered:
    """Pieces of one channel, joined in memory as long as they stay within `max_seconds`."""

    def __init__(self, max_seconds: float, rate: int, channels: int):
        if rate <= 0 or channels <= 0:
            raise Damage(f"its header tells of {rate} samples a second in {channels} channels")
        self._limit, self._rate, self._channels = max_seconds * rate, rate, channels
        self._pieces: list[np.ndarray] = []
        self.count = 0

    def add(self, samples: Float32[np.ndarray, "samples"]) -> None:
        """Raises TooLong. Nothing but decoded samples says that a sound is too long: headers may lie."""
        self._pieces.append(np.ascontiguousarray(samples))
        self.count += len(samples)
        if self.count > self._limit:
            raise TooLong(self.count / self._rate)

    def joined(self) -> Waveform:
        if not self._pieces:
            return Waveform(np.zeros(0, np.float32), self._rate, self._channels)
        samples = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        return Waveform(samples, self._rate, self._channels)


def concatenated(parts: Sequence[Waveform]) -> Waveform:
    """Sounds that follow each other in one file. Raises Damage: rate or number of channels change."""
    first, seconds = parts[0], 0.0
    for part in parts:
        if (part.rate, part.channels) != (first.rate, first.channels):
            raise changed((first.rate, first.channels), (part.rate, part.channels), seconds)
        seconds += len(part.samples) / part.rate
    if len(parts) == 1:
        return first
    return dataclasses.replace(first, samples=np.concatenate([part.samples for part in parts]))


def changed(form: tuple[int, int], now: tuple[int, int], seconds: float) -> Damage:
    """Rate and channels are others than before."""
    was, now = (f"{rate} Hz in {channels} channel(s)" for rate, channels in (form, now))
    return Damage(f"it changes from {was} to {now} after {seconds:.2f} s")
