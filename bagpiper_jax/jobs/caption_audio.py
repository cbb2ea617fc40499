"""Asks an endpoint for captions: `bagpiper caption_audio --gin_file=gin/corpora/captioning.gin` (docs/captions.md)."""

from bagpiper_jax import configuration
from bagpiper_jax.curation.captioning import CaptionConfig, caption


def main(argv: list[str] | None = None) -> None:
    caption(configuration.load(CaptionConfig, argv, __doc__, prog="bagpiper caption_audio"))
