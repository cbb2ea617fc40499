"""Tuning dialogues for captioned clips, simulated by a model and judged by it (docs/reference.md, Tuning dialogues).

A clip gives up to three dialogues, each a clip of its own: `<id>.realistic` and `<id>.imaginary`, in which the audio is
asked for, and `<id>.understanding`, in which it is asked about.
"""

from pathlib import Path

from bagpiper_jax.curation.derived import Dropped, SourceClip
from bagpiper_jax.curation.dialogues.answering import Answering
from bagpiper_jax.curation.dialogues.requesting import Requesting
from bagpiper_jax.curation.dialogues.stages import SimulateConfig
from bagpiper_jax.curation.endpoint.asking import run
from bagpiper_jax.curation.endpoint.client import Client
from bagpiper_jax.manifest import Clip

_KINDS: dict[str, type[Requesting | Answering]] = {"generation": Requesting, "understanding": Answering}


def simulate(config: SimulateConfig) -> Path:
    """Writes the corpus of dialogues. Raises as `asking.run`."""
    simulators: list[Requesting | Answering] = [_KINDS[kind](config) for kind in config.kinds]

    async def work(client: Client, source: SourceClip) -> list[Clip | Dropped]:
        return [made for simulator in simulators for made in await simulator.dialogues(client, source.clip)]

    return run(config, "simulation", work, {"model": config.endpoint.model})
