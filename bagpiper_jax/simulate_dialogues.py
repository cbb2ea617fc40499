"""Simulates tuning dialogues by an OpenAI-like endpoint: `simulate_dialogues --gin_file=gin/corpora/simulation.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.simulation import SimulateConfig, simulate
from bagpiper_jax.manifest import ManifestError


def main(argv=None):
    config = configuration.load(SimulateConfig, argv, __doc__)
    try:
        simulate(config)
    except (CorpusError, ManifestError) as error:
        sys.exit(f"simulate_dialogues: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
