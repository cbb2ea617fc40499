"""Caches SeqIO mixtures: `cache_tasks --gin_file=gin/mixtures/embedded.gin`.

With --gin.CacheConfig.live=200 it tries the first 200 clips of each task instead, and writes nothing.
"""

import os
import sys

# Caching needs no accelerator, and TensorFlow's start-up notes would bury ours.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bagpiper_jax import configuration  # noqa: E402
from bagpiper_jax.caching.export import CacheConfig, cache_mixtures  # noqa: E402
from bagpiper_jax.caching.shards import ExportError  # noqa: E402
from bagpiper_jax.corpora.assembly import CorpusError  # noqa: E402
from bagpiper_jax.data.cache import CacheError  # noqa: E402
from bagpiper_jax.data.codes import CodeStoreError  # noqa: E402
from bagpiper_jax.data.rates import RateError  # noqa: E402
from bagpiper_jax.manifest import ManifestError  # noqa: E402
from bagpiper_jax.text import TokenizerError  # noqa: E402


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(CacheConfig, argv)
    try:
        if config.live:
            _try(config)
        else:
            cache_mixtures(config)
    except (
        ExportError, CacheError, CodeStoreError, CorpusError, ManifestError, RateError, TokenizerError,
    ) as error:  # fmt: skip
        sys.exit(f"cache_tasks: {error}")


def _try(config: CacheConfig) -> None:
    from bagpiper_jax.caching import live

    for name in config.mixtures:
        for line in live.describe(live.open_live(config, name, config.live)):
            print(line)


if __name__ == "__main__":
    configuration.run_job(main)
