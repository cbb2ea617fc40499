"""`predictions.jsonl`: every item with its raw reply, what was extracted, every verdict and its reason, a line each."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bagpiper_jax import files
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Judged
from bagpiper_jax.evaluation.systems.recorded import PREDICTIONS


def write(folder: Path, judged: Iterable[Judged]) -> Path:
    """Writes the file, whole or not at all. Raises WriteError."""
    path = folder / PREDICTIONS
    with files.whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for each in judged:
            file.write(json.dumps(_line(each, folder), ensure_ascii=False, default=str) + "\n")
    return path


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a benchmark's folder. Raises BenchmarkError: there is no such file, or it is not one of ours."""
    path = folder / PREDICTIONS
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                fields = json.loads(line)
                if not {"id", "cluster", "verdicts"} <= fields.keys():
                    raise ValueError("fields are missing")
                yield fields
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}; name a result folder") from error
    except (ValueError, AttributeError) as error:
        raise BenchmarkError(
            f"{path} is no file of ours ({error}); run the benchmark again, replies are kept"
        ) from error


def _line(judged: Judged, folder: Path) -> dict[str, Any]:
    item, reply = judged.item, judged.reply
    return {
        "id": item.id,
        "cluster": item.cluster or item.id,
        "groups": dict(item.groups),
        "asked": {"text": item.asked.text, "clip": str(item.asked.clip or "") or None},
        "reply": {
            "text": writable(reply.text),
            "audio": os.path.relpath(reply.audio, folder) if reply.audio else None,
            "fault": reply.fault,
            "detail": writable(reply.detail),
        },
        "fault": judged.fault,
        "detail": writable(judged.detail),
        "verdicts": {name: plain(verdict) for name, verdict in judged.verdicts.items()},
        "record": dict(item.record),
    }


def writable(text: str) -> str:
    """Text with half of a surrogate pair, out of a damaged file, as its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> dict[str, Any]:
    """The fields of a flat dataclass as JSON knows them: numbers that are none become null."""
    return {name: _plain(x) for name, x in vars(value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return writable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
