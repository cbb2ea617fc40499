"""Captions a corpus's audio by an OpenAI-compatible endpoint: `caption_audio --gin_file=gin/corpora/captioning.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.captioning import CaptionConfig, caption
from bagpiper_jax.manifest import ManifestError
from bagpiper_jax.text import TokenizerError


def main(argv=None):
    config = configuration.load(CaptionConfig, argv, __doc__)
    try:
        caption(config)
    except (CorpusError, ManifestError, TokenizerError) as error:
        sys.exit(f"caption_audio: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
