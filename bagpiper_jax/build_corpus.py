"""Builds a corpus in manifest form: `python -m bagpiper_jax.build_corpus --gin_file=gin/corpora/embedded.gin`.

`gin/corpora/` has a file for each kind: embedded (made by code), debian (real recordings), user (your own JSONL),
espnet (ESPnet's dataset files), source (what a SeqIO task reads: tars, Parquet, TFDS).
"""

import dataclasses
import sys

from bagpiper_jax import configuration
from bagpiper_jax.caching import source_corpus as source
from bagpiper_jax.caching.source_corpus import SourceCorpusConfig
from bagpiper_jax.corpora import debian, espnet, user
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.debian import DebianCorpusConfig
from bagpiper_jax.corpora.embedded.build import EmbeddedCorpusConfig, build_embedded_corpus
from bagpiper_jax.corpora.espnet import EspnetCorpusConfig
from bagpiper_jax.corpora.user import UserCorpusConfig


@dataclasses.dataclass(frozen=True)
class BuildCorpusConfig:
    """The corpus to build, of one of the kinds."""

    corpus: (
        EmbeddedCorpusConfig | DebianCorpusConfig | UserCorpusConfig | EspnetCorpusConfig | SourceCorpusConfig
    )


def main(argv=None):
    corpus = configuration.load(BuildCorpusConfig, argv, __doc__).corpus
    try:
        if isinstance(corpus, UserCorpusConfig):
            user.build(corpus)
        elif isinstance(corpus, DebianCorpusConfig):
            debian.build(corpus)
        elif isinstance(corpus, EspnetCorpusConfig):
            espnet.build(corpus)
        elif isinstance(corpus, SourceCorpusConfig):
            source.build(corpus)
        else:
            build_embedded_corpus(corpus)
    except CorpusError as error:
        sys.exit(f"build_corpus: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
