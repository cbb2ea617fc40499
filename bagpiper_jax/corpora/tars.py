"""Samples of tar files in WebDataset's form: members of one name and different endings, one after the other.

    rain/0001.flac  rain/0001.json     fields as in a user's JSONL, which the audio becomes part of
    rain/0002.mp3   rain/0002.txt      the caption; without audio, a document

Members are found by their headers and read in place: nothing is unpacked, and a pickled member is never loaded.
"""

import dataclasses
import functools
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagpiper_jax.corpora import assembly, user_records
from bagpiper_jax.corpora.assembly import CorpusError, RecordError
from bagpiper_jax.corpora.carried import Carried, Defaults, clip_of, read_part

AUDIO = ("flac", "wav", "mp3", "ogg", "opus", "m4a", "aac", "webm", "aiff")
PICKLED = ("pickle", "pkl", "pyd", "pth", "pt")
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Sample:
    """Where the members of one key are.

    Attributes:
        path, key: the tar and the members' common name.
        members: ending → (first byte, bytes).
        fault: why the sample cannot be used, found in the headers; "" if nothing was.
    """

    path: Path
    key: str
    members: Mapping[str, tuple[int, int]]
    fault: tuple[str, str, str] | None = None


class TarReader:
    """`carried.ClipReader` over tar files. Raises CorpusError: one of them is damaged, compressed or no tar."""

    def __init__(self, paths: Iterable[Path], split: str, defaults: Defaults = Defaults()):
        self._paths, self._split, self._defaults = list(paths), split, defaults
        self._samples = _without_repeats([sample for path in self._paths for sample in index(path)])

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Carried:
        sample = self._samples[number]
        if sample.fault:
            raise RecordError(*sample.fault)
        clip_id = assembly.safe_id(sample.key)
        fields = _text_fields(sample) | {"id": clip_id}
        sounds = {}
        for ending in _of(sample, AUDIO):
            sounds[clip_id] = read_part(sample.path, *sample.members[ending])
            fields["audio"] = clip_id
        if not sounds:
            fields.pop("audio", None)  # a path where the sample was made
        return Carried(clip_of(fields, self._split, self._defaults), sounds)

    def origin(self, number: int) -> str:
        sample = self._samples[number]
        return f"{sample.path.name}: {sample.key}"

    def files(self) -> list[Path]:
        return self._paths


def index(path: Path) -> list[Sample]:
    """The samples of a tar in order. Raises CorpusError: it is damaged, compressed or no tar."""
    try:
        with tarfile.open(path, "r:") as archive:
            everything = list(archive)
    except (tarfile.TarError, OSError) as error:
        raise CorpusError(f"{path} is no whole, uncompressed tar: {error}; copy or unzip it again") from error
    _require_end(path, everything)
    grouped: list[tuple[str, list[tarfile.TarInfo]]] = []
    for member in everything:
        key = _key(member.name)
        if member.isdir():
            continue
        if not grouped or grouped[-1][0] != key:
            grouped.append((key, []))
        grouped[-1][1].append(member)
    return [_sample(path, key, together) for key, together in grouped]


def _require_end(path: Path, members: list[tarfile.TarInfo]) -> None:
    """Where a header is damaged, or two tars were joined, tarfile ends as if all were well; samples would be lost."""
    end = max((m.offset_data + -(-m.size // _BLOCK) * _BLOCK for m in members), default=0)
    if path.stat().st_size < end + _BLOCK:
        raise CorpusError(f"{path} lacks the mark of its end, so it may be cut off; copy it again")
    with open(path, "rb") as file:
        file.seek(end)
        if any(any(block) for block in iter(functools.partial(file.read, 2**20), b"")):
            raise CorpusError(
                f"{path} holds no members from byte {end} on, but data; write it again as one tar"
            )


def _key(name: str) -> str:
    folder, _, base = name.rpartition("/")
    stem = base.split(".", 1)[0]
    return f"{folder}/{stem}" if folder else stem


def _sample(path: Path, key: str, members: list[tarfile.TarInfo]) -> Sample:
    found = {m.name.rsplit("/", 1)[-1].partition(".")[2].lower(): m for m in members}
    places = {ending: (m.offset_data, m.size) for ending, m in found.items()}
    return Sample(path, key, places, _fault(found, members))


def _fault(
    found: Mapping[str, tarfile.TarInfo], members: list[tarfile.TarInfo]
) -> tuple[str, str, str] | None:
    endings = [ending.rsplit(".", 1)[-1] for ending in found]
    if len(found) < len(members):
        return (
            "repeated_member",
            f"{len(members)} members, endings {', '.join(found)}",
            "give each its ending",
        )
    if any(not m.isreg() or m.issparse() for m in members):
        return "not_a_file", "a link, device or sparse file", "write the file itself into the tar"
    if set(endings) & set(PICKLED):
        return "pickled_member", ", ".join(found), "write JSON; a pickle can run code and is never loaded"
    if sum(ending in AUDIO for ending in endings) > 1:
        return "several_audios", ", ".join(found), "keep one audio member per sample"
    return None


def _without_repeats(samples: list[Sample]) -> list[Sample]:
    """A key that came before is a fault of the later sample."""
    seen: dict[str, Sample] = {}
    found = []
    for sample in samples:
        first = seen.setdefault(sample.key, sample)
        fault = ("duplicate_id", f"{sample.key} stands in {first.path.name} too", "give each sample its key")
        found.append(sample if first is sample else dataclasses.replace(sample, fault=fault))
    return found


def _of(sample: Sample, kinds: Iterable[str]) -> list[str]:
    return [ending for ending in sample.members if ending.rsplit(".", 1)[-1] in kinds]


def _text_fields(sample: Sample) -> dict:
    """The JSON's fields; a text is the caption of audio, else a document."""
    fields: dict = {}
    for ending in _of(sample, ("json",)):
        fields |= user_records.load_line(read_part(sample.path, *sample.members[ending]))
    for ending in _of(sample, ("txt",)):
        name = "caption" if _of(sample, AUDIO) else "text"
        fields.setdefault(name, _decoded(read_part(sample.path, *sample.members[ending])))
    return fields


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("bad_text", str(error), "save the text as UTF-8") from error
