"""What runs in Beam's workers. Importing it loads Apache Beam."""

from collections.abc import Callable, Mapping
from typing import Any

import apache_beam
from apache_beam.metrics import Metrics

NAMESPACE = "bagpiper_jax"


class Work(apache_beam.DoFn):
    """Does something with each item and adds what it counts to the runner's metrics."""

    def __init__(self, work: Callable[[Any], Mapping[str, int]], prepare: Callable[[], None] | None):
        self._work, self._prepare = work, prepare

    def setup(self) -> None:
        if self._prepare is not None:
            self._prepare()

    def process(self, item: Any) -> None:
        for name, count in self._work(item).items():
            Metrics.counter(NAMESPACE, name).inc(count)
