"""Adds a scorer's columns to a corpus: `score_captions --gin_file=gin/corpora/scoring.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.scoring import ScoreConfig, score
from bagpiper_jax.manifest import ManifestError


def main(argv=None):
    config = configuration.load(ScoreConfig, argv, __doc__)
    try:
        score(config)
    except (CorpusError, ManifestError) as error:
        sys.exit(f"score_captions: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
