"""Caches SeqIO mixtures: `bagpiper cache_tasks --gin_file=gin/mixtures/embedded.gin`.

With --gin.CacheConfig.live=200 it tries the first 200 clips of each task instead, and writes nothing.
"""

import os

# Caching needs no accelerator, and TensorFlow's start-up notes would bury ours.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bagpiper_jax import configuration  # noqa: E402
from bagpiper_jax.caching import live  # noqa: E402
from bagpiper_jax.caching.config import CacheConfig  # noqa: E402
from bagpiper_jax.caching.export import cache_mixtures  # noqa: E402


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(CacheConfig, argv, __doc__, prog="bagpiper cache_tasks")
    if not config.live:
        cache_mixtures(config)
        return
    for name in config.mixtures:
        for line in live.describe(live.open_live(config, name, config.live)):
            print(line)
