"""All services of a run, as one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bagpiper_jax.runs.trackers.protocol import TrackedRun, Tracker
from bagpiper_jax.runs.trackers.relay import Relay


class Service(Protocol):
    """Settings of a service, such as `MlflowTracker`."""

    def open(self, run: TrackedRun) -> Tracker:
        """The run at the service. Talks to nobody yet. Raises TrackerError: its client is not installed."""


class Trackers:
    """Hands what a run tells to each of its services; a context that ends with the run.

    Attributes:
        done: whether the run has all its steps; set by who trains, and told to the services at the end.
    """

    def __init__(self, services: Sequence[Service] = (), run: TrackedRun | None = None):
        self.done = False
        opened = [(type(service).__name__, service.open(run)) for service in services] if run else []
        self._relays = [Relay(name, tracker) for name, tracker in opened]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for relay in self._relays:
            relay.scalars(step, values)

    def text(self, step: int, name: str, text: str) -> None:
        for relay in self._relays:
            relay.text(step, name, text)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_) -> None:
        for relay in self._relays:
            relay.close(self.done)
