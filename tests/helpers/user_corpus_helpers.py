"""A user's JSONL and its build, for tests."""

import json
from pathlib import Path

import numpy as np
import soundfile

from bagpiper_jax.corpora import user
from bagpiper_jax.manifest import Clip, read_manifest

CAPTION = "A short steady tone is heard."


def tone(seconds: float = 0.5, rate: int = 16_000, frequency: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_jsonl(folder: Path, records: list) -> Path:
    """Records as lines; strings and bytes stand as they are."""
    lines = [
        r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in records
    ]
    path = folder / "source" / "records.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def build(folder: Path, records: list, **settings) -> tuple[list[Clip], list[dict]]:
    """Builds with one worker; gives clips and rejects. `good.wav` is there for the taking."""
    source = write_jsonl(folder, records)
    if not (source.parent / "good.wav").exists():
        soundfile.write(source.parent / "good.wav", tone(), 16_000)
    config = user.UserCorpusConfig(
        str(source), str(folder / "out"), **{"workers": 1, "max_reject_frac": 0.9, **settings}
    )
    directory = user.build(config)
    rejects = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    return list(read_manifest(directory)), rejects


def good(name: str = "good", **fields) -> dict:
    return {"id": name, "audio": "good.wav", "caption": CAPTION, **fields}
