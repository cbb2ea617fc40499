"""Writing a corpus that is made from others: a stream of clips and rejects, counted, visible only when complete."""

import collections
import contextlib
import dataclasses
import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from bagpiper_jax import strict
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.user_records import is_audio_message
from bagpiper_jax.journal import JournalError, lock
from bagpiper_jax.manifest import MANIFEST, REJECTS, Clip, ManifestError, clip_line
from bagpiper_jax.outcomes import RecordError

_COUNTED = ("domain", "split", "language", "licence", "source")


@dataclasses.dataclass(frozen=True)
class SourceClip:
    """A clip of an input manifest, its paths leading from the derived corpus, and the line where it stands."""

    file: str
    line: int
    clip: Clip

    def reject(self, error: RecordError) -> Reject:
        """The rejection of the clip."""
        return Reject.by(error, self.file, self.line, self.clip.id)


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A record that gives no clip: its id, and why."""

    id: str
    error: RecordError


def read_source_clips(corpora: Sequence[str], output: str | os.PathLike) -> Iterator[SourceClip]:
    """The clips of several corpora in order. Raises ManifestError."""
    for directory in corpora:
        file = str(Path(directory) / MANIFEST)
        for number, clip in enumerate(read_clips(directory), 1):
            yield SourceClip(file, number, with_moved_paths(clip, directory, output))


def read_clips(corpus: str | os.PathLike, start: int = 0, end: int | None = None) -> Iterator[Clip]:
    """The clips whose lines begin in bytes [start, end) of a manifest. Unlike `read_manifest` it remembers no ids.

    Raises:
        ManifestError: the manifest is missing, or a line is no clip.
    """
    path = manifest_of(corpus)
    end = path.stat().st_size if end is None else end
    with open(path, "rb") as file:
        file.seek(max(start - 1, 0))
        if start:
            file.readline()  # the end of a line that begins before
        while (place := file.tell()) < end:
            try:
                yield Clip(**strict.loads(file.readline()))
            except (ValueError, TypeError) as error:
                raise ManifestError(f"{path}: the line that begins at byte {place}: {error}") from error


def manifest_of(corpus: str | os.PathLike) -> Path:
    """The path of a corpus's manifest. Raises ManifestError: it is missing."""
    path = Path(corpus) / MANIFEST
    if not path.is_file():
        raise ManifestError(f"{path} does not exist; build the corpus first (build_corpus)")
    return path


def id_hash(id: str) -> int:
    """64 bits that stand for an id."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8"), digest_size=8).digest(), "little")


class SeenIds:
    """The ids of the clips read so far, as hashes."""

    def __init__(self):
        self._hashes = set()

    def require_new(self, id: str) -> None:
        """Raises RecordError `repeated_id`."""
        name = id_hash(id)
        if name in self._hashes:
            raise RecordError("repeated_id", f"{id} occurs earlier", "give every clip an id of its own")
        self._hashes.add(name)


def with_moved_paths(clip: Clip, source: str | os.PathLike, target: str | os.PathLike) -> Clip:
    """The clip with its paths, relative to `source`, made relative to `target`: audio is never copied."""
    changes = {}
    if clip.audio:
        changes["audio"] = _moved(clip.audio, source, target)
    if clip.dialogue:
        changes["dialogue"] = [_with_moved_path(message, source, target) for message in clip.dialogue]
    return dataclasses.replace(clip, **changes) if changes else clip


def _with_moved_path(message, source, target):
    # Ids hold no slash; a path without one is a file beside the manifest.
    if is_audio_message(message) and ("/" in message[2] or (Path(source) / message[2]).is_file()):
        return [*message[:2], _moved(message[2], source, target)]
    return message


def _moved(path: str, source, target) -> str:
    return os.path.normpath(os.path.join(os.path.relpath(source, target), path))


class Derivation:
    """Writes manifest and rejects as they come; `finish` puts both in place. Use it in a `with`.

    Nothing is held in memory but counts. A job that ends otherwise leaves the last complete corpus as it was.
    """

    def __init__(self, directory: str | os.PathLike, corpora: Sequence[str], kind: str):
        """Begins a corpus of that kind.

        Raises:
            CorpusError: the output is an input, or holds a corpus of another kind.
            JournalError: another process writes it.
        """
        self.directory = Path(directory)
        if any(self.directory.resolve() == Path(source).resolve() for source in corpora):
            raise CorpusError(f"the output {directory} is also an input; choose another directory")
        assembly.require_replaceable(directory, kind)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._facts = {"corpus": kind, "inputs": list(map(str, corpora))}
        self._tables = {field: collections.Counter() for field in _COUNTED}
        self._minutes, self._reasons = collections.Counter(), collections.Counter()
        self._clips = _sole_writer(self._temporary(MANIFEST))
        self._rejects = open(self._temporary(REJECTS), "wb")
        self.kept, self._finished = 0, False

    def __enter__(self) -> "Derivation":
        return self

    def __exit__(self, *_) -> None:
        for name in (
            () if self._finished else (REJECTS, MANIFEST)
        ):  # once finished, the names are the next writer's
            self._temporary(name).unlink(missing_ok=True)
        for file in (self._rejects, self._clips):
            with contextlib.suppress(OSError):  # a full disk was told of when the line was written
                file.close()

    def _temporary(self, name: str) -> Path:
        return self.directory / f"{name}.tmp"

    def write(self, source: SourceClip, made: Clip | Dropped) -> None:
        """Keeps or drops what was made of a clip of the input; what no manifest can hold is dropped."""
        try:
            if isinstance(made, Clip):
                self.keep(made)
                return
            dropped = made
        except (ManifestError, UnicodeEncodeError) as error:
            remedy = "the clip's metrics or texts hold what JSON in UTF-8 cannot; mend what makes them"
            dropped = Dropped(made.id, RecordError("unwritable", str(error)[:300], remedy))
        self.drop(Reject.by(dropped.error, source.file, source.line, dropped.id))

    def keep(self, clip: Clip) -> None:
        """Writes a clip. Raises ManifestError or UnicodeEncodeError: no manifest can hold it."""
        self._clips.write(clip_line(clip).encode("utf-8"))
        self.kept += 1
        self._minutes[clip.domain] += clip.duration / 60
        for field, table in self._tables.items():
            table[getattr(clip, field)] += 1

    def drop(self, reject: Reject) -> None:
        """Writes a rejection. Half a surrogate pair, out of a damaged line, is written as its escape."""
        line = json.dumps(dataclasses.asdict(reject), ensure_ascii=False) + "\n"
        self._rejects.write(line.encode("utf-8", "backslashreplace"))
        self._reasons[reject.reason] += 1

    @property
    def dropped(self) -> int:
        """The number of rejections written."""
        return self._reasons.total()

    @property
    def reasons(self) -> dict[str, int]:
        """Drops by reason, most frequent first."""
        return dict(sorted(self._reasons.items(), key=lambda pair: (-pair[1], pair[0])))

    def finish(self, facts: Mapping[str, object], max_reject_frac: float = 1.0) -> Path:
        """Puts the corpus in place.

        Raises:
            CorpusError: there was no record, no clip is left, or too many were rejected: no manifest is left then, but
                the rejects.
        """
        for file in (self._clips, self._rejects):
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._temporary(REJECTS), self.directory / REJECTS)
        reasons = self.reasons
        total = self.kept + self.dropped
        if not self.kept or self.dropped > max_reject_frac * total:
            (self.directory / MANIFEST).unlink(missing_ok=True)
            if not total:
                raise CorpusError(f"{', '.join(self._facts['inputs'])}: there are no records to read")
            limit = f"more than max_reject_frac={max_reject_frac:g} allows" if self.kept else "none is left"
            raise CorpusError(
                f"{self.dropped} of {total} records were dropped ({assembly.listing(reasons)}): {limit}; "
                f"{self.directory / REJECTS} lists each with its remedy"
            )
        assembly.write_json(self.directory / assembly.SUMMARY, self._summary(facts, reasons))
        os.replace(self._temporary(MANIFEST), self.directory / MANIFEST)
        self._finished = True
        return self.directory

    def _summary(self, facts: Mapping[str, object], reasons: dict) -> dict:
        minutes = {domain: round(value, 1) for domain, value in sorted(self._minutes.items())}
        tables = {f"clips_by_{name}": assembly.count(t.elements()) for name, t in self._tables.items()}
        counts = {
            "clips": self.kept,
            "hours": round(self._minutes.total() / 60, 3),
            "minutes_by_domain": minutes,
        }
        return {**self._facts, **facts, **counts, **tables, "rejects": reasons}


def _sole_writer(path: Path) -> BinaryIO:
    """A new file that this process alone writes. Raises JournalError: another process does."""
    file = open(path, "ab")
    try:
        lock(file, path)
        # Between the opening and the lock the other process may have put its file in place.
        if not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
            raise JournalError(f"{path} was written by another process just now; run the same command again")
        file.truncate(0)
    except BaseException:
        file.close()
        raise
    return file


def require_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises CorpusError for the first name that is not known, with the nearest that is."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"
            raise CorpusError(f"{what} {name!r} occurs in no clip{hint}")
