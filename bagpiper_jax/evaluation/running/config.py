"""What one run of the suite does."""

import dataclasses

from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.evaluation.systems.config import SystemConfig


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Which benchmarks, of which system.

    Attributes:
        benchmarks: name → where its files lie.
        system: what is tested.
        output: the directory of replies, predictions, scores and pages.
        modules: modules of your own that register benchmarks, by the names that Python imports them by.
        limit: the first so many items of each benchmark; None takes all.
        shard, num_shards: which part of the items is asked: every `num_shards`-th from the `shard`-th on. A shard keeps
            its replies in the output and scores nothing; one command without shards then finds them all, and scores.
        judge: the endpoint of the model that judges, for benchmarks that are judged by one.
        evaluators: name → path, of evaluator models that no installed package carries.
        locks: lock files of the mixtures that the system was trained on, beside those that a run of ours names: what
            they share with a benchmark is said on its page.
    """

    benchmarks: dict[str, str]
    system: SystemConfig
    output: str
    modules: tuple[str, ...] = ()
    limit: int | None = None
    shard: int = 0
    num_shards: int = 1
    judge: Endpoint | None = None
    evaluators: dict[str, str] = dataclasses.field(default_factory=dict)
    locks: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.benchmarks:
            raise ValueError("benchmarks is empty; name one, and where its files lie: {'mmau': 'data/mmau'}")
        if not 0 <= self.shard < self.num_shards:
            raise ValueError("shard must lie in [0, num_shards)")
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit must be at least 1, or None")

    @property
    def part(self) -> str:
        """Ends the names of a shard's own files; "" without shards."""
        return "" if self.num_shards == 1 else f"-{self.shard}-of-{self.num_shards}"
