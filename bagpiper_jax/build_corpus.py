"""Builds the embedded corpus: `python -m bagpiper_jax.build_corpus --gin_file=gin/corpora/embedded.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.corpora.embedded.build import EmbeddedCorpusConfig, build_embedded_corpus


def main(argv=None):
    build_embedded_corpus(configuration.load(EmbeddedCorpusConfig, argv, __doc__))


if __name__ == "__main__":
    configuration.run_job(main)
