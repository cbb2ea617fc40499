"""ESPnet's dataset files as a corpus (docs/reference.md, Dataset files), and its training YAML as gin."""

from bagpiper_jax.corpora.espnet.corpus import EspnetCorpusConfig, build

__all__ = ["EspnetCorpusConfig", "build"]
