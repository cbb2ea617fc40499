"""Replies to benchmarks of understanding: their room, and those in files of predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.benchmarks.records import Record, read_records

ROOM = 4096
"""Tokens of a reply: caption and reasoning take 2,500 before an answer begins (docs/reference.md, Tuning dialogues)."""


def recorded_replies(path: Path, key: str, id_of: Callable[[Record], str]) -> dict[str, Reply]:
    """Item → reply of a file of predictions. Records without the key have none, as official scripts see it.

    Args:
        path: a `.json` or `.jsonl` file.
        key: the name under which a record has its prediction.
        id_of: record → the id of its item.

    Raises:
        BenchmarkError: the file cannot be read, no record has the key, or two replies to an item differ.
    """
    found, names = {}, set()
    for record in read_records(path):
        names |= record.fields.keys()
        if key in record.fields:
            reply = _reply(record.fields[key])
            if found.setdefault(id_of(record), reply) != reply:
                raise record.fault(f"item {id_of(record)!r} has another reply already")
    if not found:
        raise BenchmarkError(
            f"{path}: no record has {key!r}, which the official script reads; there are {', '.join(sorted(names))}: "
            f"name the predictions {key!r}"
        )
    return found


def _reply(value: Any) -> Reply:
    if value is None:
        return Reply(fault="null_reply", detail="the prediction is null, at which the official script stops")
    if not isinstance(value, str):
        return Reply(fault="malformed_reply", detail=f"the prediction is no string: {str(value)[:80]!r}")
    return Reply(value)
