"""Selects the best captions of corpora: `bagpiper select_captions --gin_file=gin/corpora/selection.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.curation.selection.selecting import SelectConfig, select


def main(argv: list[str] | None = None) -> None:
    select(configuration.load(SelectConfig, argv, __doc__, prog="bagpiper select_captions"))
