"""Captions out of CSV files, as AudioCaps, MusicCaps and everyone else write them, and the clips they tell of."""

import csv
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.generated import sounds

CLIPS = "audio"
_CAPTION = "caption"


@dataclasses.dataclass(frozen=True)
class Captioned:
    """A caption.

    Attributes:
        id: of the caption. clip: of the recording it tells of, which several may share.
        seconds: how long the recording is by the file; None where it does not say.
        reference: the recording, or None.
    """

    id: str
    clip: str
    text: str
    seconds: float | None
    reference: Path | None


class _Form(NamedTuple):
    """Names of columns; "" where a form has none."""

    id: str
    clip: str
    start: str
    end: str
    seconds: str


_FORMS = {
    "audiocaps": _Form("audiocap_id", "youtube_id", "start_time", "", ""),
    "musiccaps": _Form("ytid", "ytid", "start_s", "end_s", ""),
    "own": _Form("id", "id", "", "", "seconds"),
}
_AUDIOCAPS_SECONDS = 10.0


def read(files: Path) -> list[Captioned]:
    """The captions of a CSV file, or of the only one in a folder; their recordings lie in `audio/` beside it.

    A recording is called by its caption's id, its clip's, `<clip>_<start>` or `[<clip>]-[<start>-<end>]`.

    Raises:
        BenchmarkError: the file is missing, or no such file; rows are broken; `audio/` is there and empty.
    """
    path = _csv(files)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        name, form = _form(path, rows.fieldnames or [])
        clips = sounds.in_folder(path.parent / CLIPS) if (path.parent / CLIPS).is_dir() else {}
        found = [_row(path, row, name, form, clips) for row in rows]
    _require_unique(path, found)
    return found


def _form(path: Path, columns: Sequence[str]) -> tuple[str, _Form]:
    """The first form whose columns are there. Raises BenchmarkError."""
    for name, form in _FORMS.items():
        if {form.id, form.clip, _CAPTION} <= {*columns}:
            return name, form
    raise BenchmarkError(
        f"{path} has the columns {', '.join(columns) or 'none'}; it must have those of AudioCaps (audiocap_id, "
        "youtube_id, start_time, caption), of MusicCaps (ytid, start_s, end_s, caption), or id and caption"
    )


def _csv(files: Path) -> Path:
    found = sorted(files.glob("*.csv")) if files.is_dir() else [files]
    if len(found) != 1 or not found[0].is_file():
        said = f"holds {len(found)} CSV files" if files.is_dir() else "is missing"
        raise BenchmarkError(f"{files} {said}; name the one with the captions")
    return found[0]


def _row(path: Path, row: Mapping[str, str], name: str, form: _Form, clips: Mapping[str, Path]) -> Captioned:
    id, clip, text = ((row.get(column) or "").strip() for column in (form.id, form.clip, _CAPTION))
    start, end = ((row.get(column) or "").strip() if column else "" for column in (form.start, form.end))
    if not (id and clip and text):
        raise BenchmarkError(f"{path}: the row of {id or clip or 'no id'} lacks an id or a caption; mend it")
    try:
        seconds = (
            float(row.get(form.seconds) or "nan")
            if form.seconds
            else float(end or "nan") - float(start or "nan")
        )
    except ValueError as error:
        raise BenchmarkError(f"{path}: {id}: {error}; mend the row") from error
    if name == "audiocaps":
        seconds = _AUDIOCAPS_SECONDS
    called = (id, clip, f"{clip}_{start}", f"[{clip}]-[{start}-{end}]")
    reference = next((clips[each] for each in called if each in clips), None)
    return Captioned(id, clip, text, seconds if seconds > 0 else None, reference)


def _require_unique(path: Path, found: list[Captioned]) -> None:
    counts = Counter(each.id for each in found)
    twice = [id for id, count in counts.items() if count > 1]
    if twice or not found:
        said = f"the id {twice[0]} is there twice" if twice else "it has no captions"
        raise BenchmarkError(f"{path}: {said}; mend the file")
