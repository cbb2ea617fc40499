"""Whether SeqIO and the caches give the same examples: `bagpiper check_tasks --gin_file=gin/mixtures/embedded.gin`.

The gin file is that of `cache_tasks`, which must have run. Exit code 4 if they differ.
"""

import dataclasses
import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bagpiper_jax import configuration  # noqa: E402
from bagpiper_jax.caching import agreement  # noqa: E402
from bagpiper_jax.caching.config import CacheConfig  # noqa: E402

EXIT_DIFFERENT = 4


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Compares tasks with their caches.

    Attributes:
        cache: the job that made them.
        max_shards: compares that many shards of each cache, evenly spread; 0 for all.
    """

    cache: CacheConfig
    max_shards: int = 0


def main(argv: list[str] | None = None) -> int:
    flags = ["--gin.CheckConfig.cache=@CacheConfig()", *(sys.argv[1:] if argv is None else argv)]
    config = configuration.load(CheckConfig, flags, __doc__, prog="bagpiper check_tasks")
    found = list(agreement.compare_all(config.cache, config.max_shards))
    print("\n".join(map(str, found)))
    return 0 if all(each.holds for each in found) else EXIT_DIFFERENT
