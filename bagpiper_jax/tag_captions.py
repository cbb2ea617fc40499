"""Tags a corpus's captions by an OpenAI-compatible endpoint: `tag_captions --gin_file=gin/corpora/tagging.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.tagging import TagConfig, tag
from bagpiper_jax.manifest import ManifestError


def main(argv=None):
    config = configuration.load(TagConfig, argv, __doc__)
    try:
        tag(config)
    except (CorpusError, ManifestError) as error:
        sys.exit(f"tag_captions: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
