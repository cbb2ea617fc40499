"""What a server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50, 100, 200, 400)


class Metrics:
    """The counters of one server, in a registry of its own.

    Attributes:
        requests: by endpoint and status; 499 are those whose client left.
        seconds: from the first byte of a request to the last of its answer, by endpoint.
        first_text, first_sound: seconds until there was something to read, to hear.
        rows: that were made, text tokens and audio frames.
    """

    def __init__(self):
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "bagpiper_requests", "requests that ended", ["endpoint", "status"], registry=self._registry
        )
        self.seconds = self._histogram("bagpiper_request_seconds", "seconds of a request", ["endpoint"])
        self.first_text = self._histogram("bagpiper_first_text_seconds", "seconds to the first text")
        self.first_sound = self._histogram("bagpiper_first_audio_seconds", "seconds to the first sound")
        self.rows = Counter("bagpiper_rows", "rows that were made", ["modality"], registry=self._registry)

    def _histogram(self, name: str, what: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(name, what, labels or [], buckets=_SECONDS, registry=self._registry)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Has a gauge read its value when it is asked for."""
        Gauge(name, what, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)
