"""Builds a corpus in manifest form: `bagpiper build_corpus --gin_file=gin/corpora/embedded.gin`.

`gin/corpora/` has a file for each kind: embedded and soundscapes (made by code), debian (real recordings), user (your
own data), espnet (ESPnet's dataset files), source (what a SeqIO task reads: tars, Parquet, TFDS).
"""

import dataclasses

from bagpiper_jax import configuration
from bagpiper_jax.caching import source_corpus
from bagpiper_jax.caching.source_corpus import SourceCorpusConfig
from bagpiper_jax.corpora import debian, espnet, user
from bagpiper_jax.corpora.debian import DebianCorpusConfig
from bagpiper_jax.corpora.embedded.build import EmbeddedCorpusConfig, build_embedded_corpus
from bagpiper_jax.corpora.espnet import EspnetCorpusConfig
from bagpiper_jax.corpora.soundscapes.build import SoundscapesCorpusConfig, build_soundscapes_corpus
from bagpiper_jax.corpora.user import UserCorpusConfig

BUILDERS = {
    EmbeddedCorpusConfig: build_embedded_corpus,
    SoundscapesCorpusConfig: build_soundscapes_corpus,
    DebianCorpusConfig: debian.build,
    UserCorpusConfig: user.build,
    EspnetCorpusConfig: espnet.build,
    SourceCorpusConfig: source_corpus.build,
}


@dataclasses.dataclass(frozen=True)
class BuildCorpusConfig:
    """The corpus to build.

    Attributes:
        corpus: its settings; their class says of which kind it is.
    """

    corpus: (
        EmbeddedCorpusConfig
        | SoundscapesCorpusConfig
        | DebianCorpusConfig
        | UserCorpusConfig
        | EspnetCorpusConfig
        | SourceCorpusConfig
    )


def main(argv: list[str] | None = None) -> None:
    corpus = configuration.load(BuildCorpusConfig, argv, __doc__, prog="bagpiper build_corpus").corpus
    BUILDERS[type(corpus)](corpus)
