"""ESPnet's dataset files as a corpus (reference section 2.7), and its training YAML as gin."""

from bagpiper_jax.corpora.espnet.corpus import EspnetCorpusConfig, build

__all__ = ["EspnetCorpusConfig", "build"]
