"""Learns a small BPE on corpora that bring no tokenizer: `learn_tokenizer --gin_file=gin/corpora/tokenizer.gin`."""

import dataclasses
import itertools
import logging
import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.texts import training_texts
from bagpiper_jax.manifest import ManifestError
from bagpiper_jax.text import TokenizerError, learn_bpe

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LearnTokenizerConfig:
    """A byte-level BPE learned from the training split's captions, documents and dialogues.

    Attributes:
        corpora: manifest directories.
        output: the tokenizer.json to write.
        size: ids at most; must not exceed `Vocabulary.text_size` of the model.
    """

    corpora: tuple[str, ...]
    output: str
    size: int = 1024


def main(argv=None):
    config = configuration.load(LearnTokenizerConfig, argv, __doc__)
    texts = itertools.chain.from_iterable(training_texts(directory) for directory in config.corpora)
    try:
        tokenizer = learn_bpe(texts, config.size, config.output)
    except (ManifestError, TokenizerError) as error:
        sys.exit(f"learn_tokenizer: {error}")
    _log.info("%s: %d ids, fingerprint %s", config.output, tokenizer.size, tokenizer.fingerprint)


if __name__ == "__main__":
    configuration.run_job(main)
