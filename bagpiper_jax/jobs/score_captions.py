"""Adds a scorer's columns to a corpus: `bagpiper score_captions --gin_file=gin/corpora/scoring.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.curation.scoring import ScoreConfig, score


def main(argv: list[str] | None = None) -> None:
    score(configuration.load(ScoreConfig, argv, __doc__, prog="bagpiper score_captions"))
