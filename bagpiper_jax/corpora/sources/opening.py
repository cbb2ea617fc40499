"""Which kind of source a path is, from what lies there."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.corpora import assembly, user_records
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.audio_names import AUDIO_ENDINGS, ending
from bagpiper_jax.corpora.sources import manifests, tables
from bagpiper_jax.corpora.sources.datasets import Tables
from bagpiper_jax.corpora.sources.given import Given, first_object, objects
from bagpiper_jax.outcomes import RecordError

_JSONL = (".jsonl", ".json", ".jsonl.gz")
_TABLES = (".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class Source:
    """What a user has.

    Attributes:
        kind: in words, for logs and summaries.
        root: what relative audio paths are relative to.
        records: gives all records in order.
        files: what they are read from, but for the audio.
    """

    kind: str
    root: Path
    records: Callable[[], Iterator[Given]]
    files: tuple[Path, ...]

    def sha256(self) -> str:
        """Of its one file, or of the names and sums of all."""
        if len(self.files) == 1:
            return files.sha256(self.files[0])
        return assembly.digest([(path.name, files.sha256(path)) for path in self.files])


def open_source(path: Path, unpacked: Path) -> Source:
    """What lies at a path.

    Args:
        unpacked: the folder that sound within tables is written to.

    Raises:
        CorpusError: nothing lies there, or nothing that is known.
    """
    if path.is_dir():
        return _directory(path, unpacked)
    if not path.is_file():
        raise CorpusError(
            f"{path} does not exist; UserCorpusConfig.source must be a folder, a JSONL, CSV or Parquet file"
        )
    if path.name.endswith(_TABLES):
        return Source("table", path.parent, lambda: tables.rows(path), (path,))
    if path.suffix in (".parquet", ".arrow"):
        return Source("data set", path.parent, Tables(path.parent, (path,), unpacked).records, (path,))
    first = first_object(path)
    if "audio_filepath" in first:
        return Source("NeMo manifest", path.parent, lambda: manifests.nemo(path), (path,))
    if isinstance(first.get("recording"), dict):
        return Source("Lhotse cuts", path.parent, lambda: manifests.lhotse_cuts(path), (path,))
    return Source("JSONL", path.parent, lambda: objects(path), (path,))


def _directory(path: Path, unpacked: Path) -> Source:
    if (path / "wav.scp").is_file():
        there = [path / name for name in ("wav.scp", "text", "segments", "utt2spk", "utt2lang")]
        found = tuple(file for file in there if file.is_file())
        return Source("Kaldi data directory", path, lambda: manifests.kaldi(path), found)
    if cuts := _only(path, "cuts"):
        return Source("Lhotse cuts", path, lambda: manifests.lhotse_cuts(cuts), (cuts,))
    if recordings := _only(path, "recordings"):
        said = _only(path, "supervisions")
        read = functools.partial(manifests.lhotse_recordings, recordings, said)
        return Source("Lhotse recordings", path, read, tuple(file for file in (recordings, said) if file))
    if arrow := sorted((*path.rglob("*.arrow"), *path.rglob("*.parquet"))):
        arrow = [file for file in arrow if not file.name.startswith("cache-")]  # of `datasets`' own
        return Source("data set", path, Tables(path, tuple(arrow), unpacked).records, tuple(arrow))
    for name in ("metadata.csv", "metadata.tsv"):
        if (path / name).is_file():
            read = functools.partial(tables.rows, path / name)
            return Source("folder with a table", path, read, (path / name,))
    if (table := path / "metadata.jsonl").is_file():
        return Source("folder with a table", path, lambda: objects(table, tables.fields_of), (table,))
    return _folder(path)


def _only(path: Path, what: str) -> Path | None:
    """The one manifest of a kind in a directory. Raises CorpusError: there are several."""
    found = sorted((*path.glob(f"*{what}*.jsonl"), *path.glob(f"*{what}*.jsonl.gz")))
    if len(found) > 1:
        raise CorpusError(f"{path} has several: {', '.join(file.name for file in found)}; name one of them")
    return found[0] if found else None


def _folder(path: Path) -> Source:
    """Audio files at any depth, each with a `.json` of our fields or a `.txt` with its caption beside it."""
    everything = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    sounds = [file for file in everything if ending(file.name) in AUDIO_ENDINGS]
    if not sounds:
        raise CorpusError(f"{path} holds no audio, no table of metadata.csv, and no manifest that is known")
    beside = tuple(file for file in everything if file.suffix in (".json", ".txt"))

    def records() -> Iterator[Given]:
        for sound in sounds:
            yield Given(os.fspath(sound), 0, functools.partial(_beside, sound, path))

    return Source("folder", path, records, beside)


def _beside(sound: Path, root: Path) -> dict:
    found = {}
    if (fields := sound.with_suffix(".json")).is_file():
        found = user_records.load_line(fields.read_bytes())
    if (words := sound.with_suffix(".txt")).is_file():
        try:
            found.setdefault("caption", words.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise RecordError("bad_text", f"{words.name}: {error}", "save the text as UTF-8") from error
    return {**found, "audio": os.fspath(sound.relative_to(root))}
