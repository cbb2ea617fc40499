"""A corpus to codec codes: `bagpiper tokenize_audio --gin.TokenizeConfig.corpus=DIRECTORY`."""

from bagpiper_jax import configuration, parallel
from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
from bagpiper_jax.pods.joining import join_pod


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(TokenizeConfig, argv, __doc__, prog="bagpiper tokenize_audio")
    join_pod()
    parallel.require_devices()
    tokenize(config)
