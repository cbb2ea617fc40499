"""Asks an endpoint for tuning dialogues: `bagpiper simulate_dialogues --gin_file=gin/corpora/simulation.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.curation.dialogues.simulation import simulate
from bagpiper_jax.curation.dialogues.stages import SimulateConfig


def main(argv: list[str] | None = None) -> None:
    simulate(configuration.load(SimulateConfig, argv, __doc__, prog="bagpiper simulate_dialogues"))
