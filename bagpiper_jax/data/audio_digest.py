"""One hash of all audio of a corpus: manifests name files, and a file may change under its name.

Contents are read once: `<corpus>/audio_hashes.json` remembers each file's hash with its size and time of change.
The digest depends on contents alone, so a copied corpus has the original's.
"""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.manifest import Clip

HASHES = "audio_hashes.json"
FILE_HASHES = "file_hashes.json"
_log = logging.getLogger(__name__)


def audio_digest(corpus: str | os.PathLike, clips: Iterable[Clip]) -> str:
    """SHA-256 over paths and contents of every audio file that the clips name; a missing file counts as such."""
    return audio_files_digest(corpus, audio_files(clips))


def audio_files_digest(corpus: str | os.PathLike, paths: set[str]) -> str:
    """The same, of the files that `audio_files` found."""
    return _digest(Path(corpus), paths, HASHES)


def files_digest(corpus: str | os.PathLike, paths: Iterable[Path]) -> str:
    """The same over any files, of which those below `corpus` are known by their relative paths."""
    corpus = Path(corpus)
    below = {str(p.relative_to(corpus)) if p.is_relative_to(corpus) else str(p) for p in paths}
    return _digest(corpus, below, FILE_HASHES)


def _digest(corpus: Path, paths: set[str], memory: str) -> str:
    known = _remembered(corpus / memory)
    found = {path: _entry(corpus / path, known.get(path)) for path in sorted(paths)}
    if not found.items() <= known.items():
        _remember(corpus / memory, known | found)
    contents = {path: entry and entry[2] for path, entry in found.items()}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def audio_files(clips: Iterable[Clip]) -> set[str]:
    """Paths of the clips' audio, and of files that dialogues name by their path. Holds no clip."""
    ids, paths, mentioned = set(), set(), set()
    for clip in clips:
        ids.add(clip.id)
        paths |= {clip.audio} if clip.audio else set()
        for message in clip.dialogue or ():
            if list(message[:2]) == ["user", "audio"] and isinstance(message[-1], str):
                mentioned.add(message[-1])
    return paths | (mentioned - ids)


def _entry(path: Path, known: list | None) -> list | None:
    """[bytes, time of change, hash] of a file; its content is read only if one of the first two is new."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        here = [status.st_size, status.st_mtime_ns]
        return known if known and known[:2] == here else [*here, files.sha256(path)]
    except OSError:
        return None  # the jobs that read it reject the clip by name


def _remembered(path: Path) -> dict[str, list | None]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _remember(path: Path, entries: dict[str, list | None]) -> None:
    try:
        files.replace(path, json.dumps(entries))
    except OSError as error:  # a corpus may be read-only; then its audio is read each time
        _log.warning("cannot keep the audio's hashes in %s: %s", path, error)
