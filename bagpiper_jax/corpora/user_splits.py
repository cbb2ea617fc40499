"""The splits of a user's corpus: as stated, else by hash, and what is odd about them."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.user_records import UserRecord
from bagpiper_jax.manifest import SPLITS, Clip

_log = logging.getLogger(__name__)


def splits_of(records: Iterable[UserRecord], seed: int, held_out: float) -> dict[str, str]:
    """Group → split for records that state none: that of a fellow member who states one, else by hash."""
    splits = {}
    for record in records:
        if record.split:
            splits.setdefault(record.kept_together, record.split)
    for record in records:
        group = record.kept_together
        splits.setdefault(group, assembly.hash_split(group, seed, held_out))
    return splits


def warn_of_empty(directory: Path) -> None:
    """Of a corpus that was built."""
    found = json.loads((directory / assembly.SUMMARY).read_text(encoding="utf-8"))["clips_by_split"]
    if empty := [split for split in SPLITS if split not in found]:
        remedy = "raise UserCorpusConfig.held_out, or state splits"
        _log.warning("no clip is in %s, which training or scores need: %s", " or ".join(empty), remedy)


def warn_of_straddling(clips: Sequence[Clip]) -> None:
    """Of groups that the source divides."""
    groups = assembly.straddling(clips)
    if groups:
        _log.warning("%d groups stand in several splits, as the source states: %s …", len(groups), groups[:3])
