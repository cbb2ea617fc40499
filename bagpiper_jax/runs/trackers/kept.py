"""By which id a service knows a run: kept in the run's directory, so that a run that goes on is the same run there."""

import json
from pathlib import Path

from bagpiper_jax import files

FILE = "trackers.json"


def read(directory: Path, service: str) -> str | None:
    """The id, None for a run that the service has not seen."""
    path = directory / FILE
    return json.loads(path.read_text()).get(service) if path.exists() else None


def keep(directory: Path, service: str, identifier: str) -> None:
    path = directory / FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    files.replace(path, json.dumps(known | {service: identifier}, indent=1, sort_keys=True) + "\n")
