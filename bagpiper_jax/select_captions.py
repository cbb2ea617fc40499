"""Selects the best captions of corpora: `select_captions --gin_file=gin/corpora/selection.gin` (docs/captions.md)."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.selection import SelectConfig, select
from bagpiper_jax.manifest import ManifestError
from bagpiper_jax.text import TokenizerError


def main(argv=None):
    config = configuration.load(SelectConfig, argv, __doc__)
    try:
        select(config)
    except (CorpusError, ManifestError, TokenizerError) as error:
        sys.exit(f"select_captions: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
