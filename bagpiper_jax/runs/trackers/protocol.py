"""What every tracker does."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bagpiper_jax.errors import Explained


class TrackerError(Explained):
    """A tracker that cannot be opened; the message names the setting, or the package to install."""


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """The run whose numbers are tracked.

    Attributes:
        name: what a person calls it.
        directory: its directory on this machine, where a tracker keeps by which id the service knows the run.
    """

    name: str
    directory: Path


class Tracker(Protocol):
    """One run at one service. Methods may raise whatever the service's client raises, and may wait."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point per name."""

    def text(self, step: int, name: str, text: str) -> None:
        """A text, shown as it is."""

    def close(self, done: bool) -> None:
        """The run has ended; `done` if it has all its steps, else it will go on."""
