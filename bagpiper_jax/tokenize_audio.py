"""A corpus to codec codes: `python -m bagpiper_jax.tokenize_audio --gin.TokenizeConfig.corpus='"DIRECTORY"'`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
from bagpiper_jax.data.codes import CodeStoreError
from bagpiper_jax.manifest import ManifestError
from bagpiper_jax.models.codec.storage import CodecFileError
from bagpiper_jax.pods.joining import PodError, join_pod


def main(argv=None):
    config = configuration.load(TokenizeConfig, argv, __doc__)
    try:
        join_pod()
        tokenize(config)
    except (CodecFileError, CodeStoreError, ManifestError, PodError) as error:
        sys.exit(f"tokenize_audio: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
