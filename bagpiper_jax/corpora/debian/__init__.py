"""A corpus of real recordings out of Debian's archive, and of real scores rendered with a Debian soundfont."""

from bagpiper_jax.corpora.debian.corpus import DebianCorpusConfig, build

__all__ = ["DebianCorpusConfig", "build"]
