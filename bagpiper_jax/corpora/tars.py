"""Samples of tar files in WebDataset's form: members of one name and different endings, one after the other.

    rain/0001.flac  rain/0001.json     fields as in a user's JSONL, which the audio becomes part of
    rain/0002.mp3   rain/0002.txt      the caption; without audio, a document

Members are found by their headers and read in place: nothing is unpacked, and a pickled member is never loaded. What
file systems and archivers leave in tars (`._name` of macOS, `.DS_Store`, `__MACOSX/`, headers written as files) belongs
to no sample: it is passed over and counted.
"""

import collections
import dataclasses
import functools
import logging
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagpiper_jax.corpora import assembly, audio_names, user_records
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.clip_readers import ClipWithAudio, Defaults, clip_of, read_part
from bagpiper_jax.outcomes import RecordError

TEXTS = ("json", "txt")
PICKLED = ("pickle", "pkl", "pyd", "pth", "pt")
_LITTER = re.compile(
    r"\.[^/]*|__MACOSX|PaxHeaders?(\.\d+)?|pax_global_header|@eaDir|Thumbs\.db|desktop\.ini|System Volume Information"
    r"|\$RECYCLE\.BIN|Icon\r",
    re.IGNORECASE,
)
_KNOWN_LITTER = (
    ".DS_Store",
    "__MACOSX",
    "Thumbs.db",
    "desktop.ini",
    "pax_global_header",
)  # counted by their names
_BLOCK = 512
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Where the members of one key are.

    Attributes:
        path, key: the tar and the members' common name.
        members: ending → (first byte, bytes).
        audio: endings of members that are audio, by their ending or by how they begin.
        unread: endings of members that are neither audio nor one of `TEXTS`.
        fault: why the sample cannot be used, found in the headers; None if nothing was.
    """

    path: Path
    key: str
    members: Mapping[str, tuple[int, int]]
    audio: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    fault: tuple[str, str, str] | None = None


class TarReader:
    """`clip_readers.ClipReader` over tar files. Raises CorpusError: one of them is damaged, compressed or no tar.

    Attributes:
        passed_over: what of the tars belongs to no sample, or is no audio and no text, by name and how often.
    """

    def __init__(self, paths: Iterable[Path], split: str, defaults: Defaults = Defaults()):
        self._paths, self._split, self._defaults = list(paths), split, defaults
        self.passed_over: collections.Counter[str] = collections.Counter()
        samples = [sample for path in self._paths for sample in index(path, self.passed_over)]
        self._samples = _without_repeats(samples)
        self.passed_over.update(f"*.{ending}" for sample in samples for ending in sample.unread)
        if self.passed_over:
            listed = assembly.listing(assembly.count(self.passed_over.elements()))
            _log.warning("members of %d tars that are not read: %s", len(self._paths), listed)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> ClipWithAudio:
        sample = self._samples[number]
        if sample.fault:
            raise RecordError(*sample.fault)
        clip_id = assembly.safe_id(sample.key)
        fields = _text_fields(sample) | {"id": clip_id}
        sounds = {}
        for ending in sample.audio:
            sounds[clip_id] = read_part(sample.path, *sample.members[ending])
        if sounds:
            fields["audio"] = clip_id  # in the JSON it may be a path where the sample was made
        elif fields.get("audio") is not None:
            detail = (
                f"the JSON names audio {str(fields['audio'])[:80]!r}, and no member of the sample is audio"
            )
            raise RecordError("unread_audio", detail, "write the audio into the tar beside the JSON")
        return ClipWithAudio(clip_of(fields, self._split, self._defaults), sounds)

    def origin(self, number: int) -> str:
        sample = self._samples[number]
        return f"{sample.path.name}: {sample.key}"

    def files(self) -> list[Path]:
        return self._paths


def index(path: Path, passed_over: collections.Counter[str]) -> list[Sample]:
    """The samples of a tar in order; members that belong to none are counted in `passed_over`.

    Raises:
        CorpusError: it is damaged, compressed or no tar.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            everything = list(archive)
    except Exception as error:  # damaged headers have tarfile raise errors of every sort
        raise CorpusError(f"{path} is no whole, uncompressed tar: {error}; copy or unzip it again") from error
    _require_end(path, everything)
    grouped: list[tuple[str, list[tarfile.TarInfo]]] = []
    for member in everything:
        if litter := _litter(member.name):
            passed_over[litter] += 1
            continue
        if member.isdir():
            continue
        key = _key(member.name)
        if not grouped or grouped[-1][0] != key:
            grouped.append((key, []))
        grouped[-1][1].append(member)
    with open(path, "rb") as file:
        return [_sample(path, key, together, file.fileno()) for key, together in grouped]


def _litter(name: str) -> str:
    """What is left behind by file systems and archivers, by the name it goes under; "" for a member of a sample."""
    for part in name.split("/"):
        if part not in (".", "..", "") and _LITTER.fullmatch(part):
            return "._*" if part.startswith("._") else part if part in _KNOWN_LITTER else f"{part[0]}*"
    return ""


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


def _sample(path: Path, key: str, members: list[tarfile.TarInfo], descriptor: int) -> Sample:
    found = {m.name.rsplit("/", 1)[-1].partition(".")[2].lower(): m for m in members}
    places = {ending: (m.offset_data, m.size) for ending, m in found.items()}
    heard = tuple(ending for ending, member in found.items() if _is_audio(ending, member, descriptor))
    unread = tuple(e for e in found if e not in heard and audio_names.ending(e) not in TEXTS)
    return Sample(path, key, places, heard, unread, _fault(found, members, heard, unread))


def _is_audio(ending: str, member: tarfile.TarInfo, descriptor: int) -> bool:
    """Known endings say so; what other members are, their first bytes tell."""
    last = audio_names.ending(ending)
    if last in TEXTS or last in PICKLED or not member.isreg():
        return False
    head = min(audio_names.HEAD, member.size)
    return last in audio_names.AUDIO_ENDINGS or audio_names.looks_like_audio(
        os.pread(descriptor, head, member.offset_data)
    )


def _fault(
    found: Mapping[str, tarfile.TarInfo],
    members: list[tarfile.TarInfo],
    heard: tuple[str, ...],
    unread: tuple[str, ...],
) -> tuple[str, str, str] | None:
    if len(found) < len(members):
        return (
            "repeated_member",
            f"{len(members)} members, endings {', '.join(found)}",
            "give each its ending",
        )
    if any(not m.isreg() or m.issparse() for m in members):
        return "not_a_file", "a link, device or sparse file", "write the file itself into the tar"
    if any(audio_names.ending(ending) in PICKLED for ending in found):
        return "pickled_member", ", ".join(found), "write JSON; a pickle can run code and is never loaded"
    if len(heard) > 1:
        return "several_audios", ", ".join(found), "keep one audio member per sample"
    if unread and not heard:
        remedy = "give audio an ending of its format; leave out what is neither audio nor text"
        return "unknown_member", f"{', '.join(unread)} beside {', '.join(found)}", remedy
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


def _text_fields(sample: Sample) -> dict:
    """The JSON's fields; a text is the caption of audio, else a document."""
    fields: dict = {}
    for place in _places(sample, "json"):
        fields |= user_records.load_line(read_part(sample.path, *place))
    for place in _places(sample, "txt"):
        fields.setdefault("caption" if sample.audio else "text", _decoded(read_part(sample.path, *place)))
    return fields


def _places(sample: Sample, kind: str) -> list[tuple[int, int]]:
    return [place for ending, place in sample.members.items() if audio_names.ending(ending) == kind]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("bad_text", str(error), "save the text as UTF-8") from error
