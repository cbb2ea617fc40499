"""Learns a small BPE for a corpus: `bagpiper learn_tokenizer --gin_file=gin/corpora/tokenizer.gin`."""

import dataclasses
import itertools
import logging

from bagpiper_jax import configuration
from bagpiper_jax.corpora.texts import training_texts
from bagpiper_jax.text import learn_bpe

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


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(LearnTokenizerConfig, argv, __doc__, prog="bagpiper learn_tokenizer")
    texts = itertools.chain.from_iterable(training_texts(directory) for directory in config.corpora)
    tokenizer = learn_bpe(texts, config.size, config.output)
    _log.info("%s: %d ids, fingerprint %s", config.output, tokenizer.size, tokenizer.fingerprint)
