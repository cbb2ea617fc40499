"""A corpus to codec codes: `python -m bagpiper_jax.tokenize_audio --gin.TokenizeConfig.corpus='"DIRECTORY"'`."""

from bagpiper_jax import configuration
from bagpiper_jax.data.tokenization import TokenizeConfig, tokenize


def main(argv=None):
    tokenize(configuration.load(TokenizeConfig, argv, __doc__))


if __name__ == "__main__":
    configuration.run_job(main)
