"""Caches a SeqIO mixture: `cache_tasks --gin_file=gin/mixtures/embedded_pretraining.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.data.export import CacheConfig, cache_mixture


def main(argv: list[str] | None = None) -> None:
    cache_mixture(configuration.load(CacheConfig, argv))


if __name__ == "__main__":
    configuration.run_job(main)
