"""Selecting captions and asking an endpoint: what a clip costs.

    python benchmarks/curation.py [--captions=3000] [--columns=1000000] [--requests=4000] [--concurrency=256]

Needs the `curation` extra. Prints one JSON object: bytes of anonymous memory and microseconds per clip of a selection's
decisions, over random columns a tenth of which repeat; CPU milliseconds per caption of a whole selection (300-word
captions, one process); and requests per second against a server in the same process that answers after half a second,
with the CPU milliseconds of client and server together.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bagpiper_jax.curation.endpoint.answers import Answers
from bagpiper_jax.curation.endpoint.client import Client, Endpoint, text_question
from bagpiper_jax.curation.selection import deciding, measuring, selecting
from bagpiper_jax.curation.selection.near_duplicates import NearDuplicates
from bagpiper_jax.curation.selection.selecting import SelectConfig, select
from bagpiper_jax.manifest import Clip, write_manifest

PIECE = 200_000
ANSWER = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "word " * 400}, "finish_reason": "stop"}
    ],
    "usage": {"total_tokens": 600},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("captions", 3000),
        ("columns", 1_000_000),
        ("requests", 4000),
        ("concurrency", 256),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            **decisions(Path(folder) / "columns", given.columns),
            "cpu_ms_per_caption": selecting_captions(Path(folder) / "captions", given.captions),
            **asyncio.run(asking(Path(folder) / "answers.jsonl", given.requests, given.concurrency)),
        }
    print(json.dumps(report, indent=1))


def selecting_captions(folder: Path, count: int) -> float:
    """CPU milliseconds per caption, from manifest to manifest."""
    rng = np.random.default_rng(0)
    captions = [" ".join(f"word{n}" for n in rng.integers(5000, size=300)) for _ in range(count)]
    clips = [
        Clip(f"c{i}", "train", "sound", audio="a.flac", duration=5.0, caption=c)
        for i, c in enumerate(captions)
    ]
    write_manifest(folder / "in", clips)
    config = SelectConfig((str(folder / "in"),), str(folder / "out"), score=None, workers=1)
    start = time.process_time()
    select(config)
    return round((time.process_time() - start) / count * 1e3, 2)


def decisions(folder: Path, count: int) -> dict[str, float]:
    """Memory and time of everything between the two passes."""
    near, pieces = NearDuplicates(permutations=26), []
    folder.mkdir()
    for number in range(max(count // PIECE, 1)):
        pieces.append(measuring.Piece("in", 0, 0, str(folder / f"{number:06d}")))
        write_columns(pieces[-1].stem, near, np.random.default_rng(number))
    before, start = anonymous_bytes(), time.process_time()
    peak = Peak()
    columns = deciding.Columns.load([f"{piece.stem}.npz" for piece in pieces])
    selecting._drop_near_duplicates(SelectConfig(("in",), "out", near_duplicates=near), pieces, columns)
    deciding.drop_by_score(columns, 0.1, 0.2, 42)
    deciding.resample(columns, 42)
    deciding.drop_quoting(columns)
    seconds = time.process_time() - start
    return {
        "columns": len(columns),
        "bytes_per_clip": round((peak.stop() - before) / len(columns), 1),
        "cpu_us_per_clip_and_band": round(seconds / len(columns) / near.bands[0] * 1e6, 2),
    }


def write_columns(stem: str, near: NearDuplicates, rng: np.random.Generator) -> None:
    signatures = rng.integers(0, 2**32, (PIECE, near.permutations), dtype=np.uint32)
    signatures[: PIECE // 10] = signatures[PIECE // 10 : PIECE // 5]
    np.save(f"{stem}.hashed.npy", np.ones(PIECE, bool))
    np.save(f"{stem}.signatures.npy", signatures)
    np.save(f"{stem}.keys.npy", near.keys(signatures))
    measuring._save(
        f"{stem}.npz", id=rng.integers(0, 2**63, PIECE, dtype=np.uint64), reasons=np.array([""]),
        verdict=np.zeros(PIECE, np.uint8), domain=rng.integers(0, 3, PIECE).astype(np.uint8),
        score=rng.random(PIECE, np.float32), factor=np.ones(PIECE, np.float32), held_out=np.zeros(PIECE, bool),
        quotes=np.zeros((0, 2), np.uint64), sources=np.array(["s"]),
    )  # fmt: skip


def anonymous_bytes() -> int:
    """Memory of this process that no file backs: mapped signatures can be dropped at any time."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


class Peak:
    """The most anonymous memory between construction and `stop`, looked at a hundred times a second."""

    def __init__(self):
        import threading

        self._most, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            self._most = max(self._most, anonymous_bytes())

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self._most


async def asking(path: Path, count: int, concurrency: int) -> dict[str, float]:
    """Requests per second live, and answers per second read back."""
    from aiohttp import web

    async def complete(request):
        await request.json()
        await asyncio.sleep(0.5)
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    answers = Answers(path)
    questions = [text_question("benchmark", f"c{i}", "prompt " * 300, 0.0, 512) for i in range(count)]
    async with Client(Endpoint(url, "m", concurrency=concurrency), answers, os.environ) as client:
        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(client.ask, questions))
        live, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        await asyncio.gather(*map(client.ask, questions))
        replay = time.perf_counter() - start
    answers.close()
    await runner.cleanup()
    return {
        "requests_per_second": round(count / live),
        "cpu_ms_per_request": round(cpu / count * 1e3, 2),
        "replayed_per_second": round(count / replay),
    }


if __name__ == "__main__":
    main()
