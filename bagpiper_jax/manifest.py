"""The one form in which every corpus ends: a directory with `manifest.jsonl` and audio files.

A line of the manifest is a `Clip`. The embedded corpus, the Debian corpus and a user's own JSONL differ only in
how they come to it; everything downstream (codec tokens, SeqIO tasks, evaluation) reads clips.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bagpiper_jax import files, strict, typed
from bagpiper_jax.errors import Explained

DOMAINS = ("speech", "sound", "music", "mixed", "text")
SPLITS = ("train", "validation", "test")
DIRECTIONS = ("caption_to_audio", "audio_to_caption", "text_only")
MANIFEST = "manifest.jsonl"
REJECTS = "rejects.jsonl"


class ManifestError(Explained, ValueError):
    """A manifest line that cannot be used; names file, line and remedy."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a corpus.

    Attributes:
        id: unique in the corpus; letters, digits, `-`, `_`, `.`.
        split: train, validation or test.
        domain: speech, sound, music, mixed or text.
        audio: path relative to the manifest, or None for text-only records.
        duration: seconds, 0 for text-only records.
        caption: rich caption prose, or None.
        text: plain document for text-only training, or None.
        annotation: an `AudioAnnotation` as a JSON object, or None.
        dialogue: [[role, modality, content], …] as authored, or None; audio content is a clip id or a path.
        source, licence, language: provenance.
        group: what must not straddle splits: a speaker, a tune, a source recording.
        directions: pre-training tasks that may use the clip, of `DIRECTIONS`; None for all.
        start, end: seconds of the recording that the clip was cut from; None for a recording that was taken whole.
        metrics: what was measured or judged, by name: numbers, booleans, strings; or None (docs/captions.md).
    """

    id: str
    split: str
    domain: str
    audio: str | None = None
    duration: float = 0.0
    caption: str | None = None
    text: str | None = None
    annotation: dict | None = None
    dialogue: list | None = None
    source: str = ""
    licence: str = ""
    language: str = "en"
    group: str = ""
    directions: list | None = None
    start: float | None = None
    end: float | None = None
    metrics: dict | None = None

    def __post_init__(self):
        if fault := typed.mistyped(self):
            raise ManifestError(f"clip {str(self.id)[:80]}: {fault}")
        if self.duration < 0:
            raise ManifestError(f"clip {self.id}: duration {self.duration} is negative")
        if not is_id(self.id):
            raise ManifestError(f"clip id {self.id!r} must be letters, digits, '-', '_' or '.'")
        if self.split not in SPLITS:
            raise ManifestError(f"clip {self.id}: split {self.split!r} is none of {', '.join(SPLITS)}")
        if self.domain not in DOMAINS:
            raise ManifestError(f"clip {self.id}: domain {self.domain!r} is none of {', '.join(DOMAINS)}")
        if not all(direction in DIRECTIONS for direction in self.directions or ()):
            raise ManifestError(f"clip {self.id}: directions {self.directions} are not of {DIRECTIONS}")


def is_id(name: str) -> bool:
    """Whether a clip may have this id: it can name a file, and never one in another folder."""
    return bool(name) and all(c.isalnum() or c in "-_." for c in name)


def write_manifest(directory: str | os.PathLike, clips: Iterable[Clip]) -> Path:
    """Writes `manifest.jsonl` atomically and returns its path. Raises WriteError."""
    path = Path(directory) / MANIFEST
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for clip in clips:
            file.write(clip_line(clip))
    return path


def clip_line(clip: Clip) -> str:
    """A clip as its line of a manifest; unset fields are left out. Raises ManifestError: it holds a NaN or infinity."""
    line = {name: value for name, value in vars(clip).items() if value not in (None, "")}
    try:
        return json.dumps(line, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    except ValueError as error:
        raise ManifestError(f"clip {clip.id} holds a number without a value: {error}") from error


def read_manifest(directory: str | os.PathLike) -> Iterator[Clip]:
    """Yields the clips of a corpus in file order. Raises ManifestError as `read_placed` does."""
    return (clip for _, clip in read_placed(directory))


def read_placed(directory: str | os.PathLike) -> Iterator[tuple[int, Clip]]:
    """Yields each clip of a corpus with the byte at which its line begins, for `read_at`.

    Raises:
        ManifestError: the manifest is missing, or a line is not a clip or has another's id; file and line are named.
    """
    path, lines, place = Path(directory) / MANIFEST, {}, 0
    if not path.exists():
        raise ManifestError(f"{path} does not exist; build the corpus first (build_corpus)")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                clip = Clip(**strict.loads(line))
            except (ValueError, TypeError) as error:
                raise ManifestError(f"{path}:{number}: {error}; build the corpus again") from error
            if (first := lines.setdefault(clip.id, number)) != number:
                raise ManifestError(
                    f"{path}:{number}: clip id {clip.id!r} is that of line {first}; give each clip its own"
                )
            yield place, clip
            place += len(line)


def read_at(directory: str | os.PathLike, places: Iterable[int]) -> Iterator[Clip]:
    """The clips of a manifest that was read whole before, by the bytes at which their lines begin."""
    with open(Path(directory) / MANIFEST, "rb") as file:
        for place in places:
            file.seek(place)
            yield Clip(**json.loads(file.readline()))
