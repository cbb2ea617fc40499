"""Small corpora for the jobs of curation, their settings and results."""

import collections
import json
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.manifest import Clip, read_manifest, write_manifest

SAID = 'A calm woman says "good morning" while it rains.'


def corpus(folder: Path, count: int = 4, **fields) -> str:
    """Clips c0, c1, … of noise, 0.2 s each, and one text document."""
    directory = folder / "in"
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    clips = []
    for i in range(count):
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, 3200).astype(np.float32)
        audio.write(directory / f"audio/{i}.flac", samples)
        base = {"split": "train", "domain": "speech", "audio": f"audio/{i}.flac", "duration": 0.2}
        clips.append(Clip(**{"id": f"c{i}", **base, "caption": f"{SAID} Number {i}.", **fields}))
    write_manifest(directory, [*clips, Clip("t", "train", "text", text="A document.")])
    return str(directory)


def settings(folder: Path, server, max_reject_frac: float = 0.95, **endpoint_settings) -> dict:
    quick = dict(model="m", seconds=20.0, first_wait=0.01, longest_wait=0.1, attempts=2, concurrency=4)
    asked = Endpoint(**{"url": server.url, "key_variable": "", **quick, **endpoint_settings})
    corpora, output = (str(folder / "in"),), str(folder / "out")
    return {"corpora": corpora, "output": output, "endpoint": asked, "max_reject_frac": max_reject_frac}


def result(folder: Path) -> tuple[dict[str, Clip], dict[str, str], dict]:
    out = folder / "out"
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    summary = json.loads((out / "corpus.json").read_text())
    clips = {clip.id: clip for clip in read_manifest(out)}
    assert summary["records"] == len(clips) + len(rejects)
    assert summary["rejects"] == collections.Counter(r["reason"] for r in rejects)
    assert all((out / clip.audio).is_file() for clip in clips.values() if clip.audio)
    return clips, {r["id"]: r["reason"] for r in rejects}, summary
