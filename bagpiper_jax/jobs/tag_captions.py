"""Asks an endpoint for tags of captions: `bagpiper tag_captions --gin_file=gin/corpora/tagging.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.curation.tagging import TagConfig, tag


def main(argv: list[str] | None = None) -> None:
    tag(configuration.load(TagConfig, argv, __doc__, prog="bagpiper tag_captions"))
