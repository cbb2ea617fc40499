"""Recordings with transcripts: LibriSpeech's folders, Kaldi's `text` and `wav.scp`, our manifests.

Paths of a `wav.scp` start at its folder, where they do not start at the root.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.captions.annotation import AnnotationError
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.manifest import MANIFEST, read_manifest

_TRANSCRIPTS = "*.trans.txt"


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        id: one of its own within its set.
        set: such as "test-clean": the folder's name.
        audio: the file.
        text: the transcript.
        language: such as "en".
        speaker: "" where it is not known.
    """

    id: str
    set: str
    audio: Path
    text: str
    language: str = "en"
    speaker: str = ""


def read_speech(folder: Path) -> Iterator[Utterance]:
    """All utterances of a set, or of the sets that lie in a folder, in the order of their names.

    Raises:
        BenchmarkError: the folder holds no set, or a set's file is not what it should be; file and line are named.
    """
    folders = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())] if folder.is_dir() else []
    opened = [(place, read) for place in folders if (read := _reader(place))]
    if not opened:
        raise BenchmarkError(
            f"{folder} holds no recordings with transcripts; name a folder of LibriSpeech such as test-clean, one with "
            f"Kaldi's text and wav.scp, one with our {MANIFEST}, or a folder of such folders"
        )
    # A folder that is a set itself has no sets in it: LibriSpeech's speakers are folders too.
    for place, read in opened[:1] if opened[0][0] == folder else opened:
        yield from read(place)


def _reader(folder: Path) -> Callable[[Path], Iterator[Utterance]] | None:
    if (folder / MANIFEST).is_file():
        return _of_manifest
    if (folder / "wav.scp").is_file():
        return _of_kaldi
    if any(folder.glob(f"*/*/{_TRANSCRIPTS}")):
        return _of_librispeech
    return None


def _of_librispeech(folder: Path) -> Iterator[Utterance]:
    for path in sorted(folder.glob(f"*/*/{_TRANSCRIPTS}")):
        for id, text in _columns(path):
            yield Utterance(
                id, folder.name, path.parent / f"{id}.flac", text, speaker=path.parent.parent.name
            )


def _of_kaldi(folder: Path) -> Iterator[Utterance]:
    if (folder / "segments").is_file():
        raise BenchmarkError(
            f"{folder / 'segments'}: recordings must be cut; cut them, and leave the file out"
        )
    audio, speakers = dict(_columns(folder / "wav.scp")), {}
    if (folder / "utt2spk").is_file():
        speakers = dict(_columns(folder / "utt2spk"))
    for id, text in _columns(folder / "text"):
        if id not in audio:
            raise BenchmarkError(f"{folder / 'wav.scp'} has no line for {id!r} of {folder / 'text'}; add it")
        if "|" in audio[id]:
            raise BenchmarkError(
                f"{folder / 'wav.scp'}: {id!r} is a command; run it, and name the file that it makes"
            )
        yield Utterance(id, folder.name, folder / audio[id], text, speaker=speakers.get(id, ""))


def _of_manifest(folder: Path) -> Iterator[Utterance]:
    """Clips whose annotation tells who says what; other clips have no transcript."""
    for clip in read_manifest(folder):
        if clip.audio is None or clip.annotation is None:
            continue
        try:
            turns = sorted(AudioAnnotation.from_json(clip.annotation).turns, key=lambda turn: turn.start)
        except AnnotationError as error:
            raise BenchmarkError(
                f"{folder / MANIFEST}, clip {clip.id}: {error}; build the corpus again"
            ) from error
        if turns:
            text = " ".join(turn.text for turn in turns)
            yield Utterance(clip.id, folder.name, folder / clip.audio, text, turns[0].language, clip.group)


def _columns(path: Path) -> Iterator[tuple[str, str]]:
    """The first word of each line and the rest of it. Raises BenchmarkError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(
            f"{path} cannot be read as UTF-8: {error}; every line is an id, a blank and a text"
        ) from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        id, *rest = line.split(maxsplit=1)[:2] or [""]
        if not id:
            continue
        if (first := seen.setdefault(id, number)) != number:
            raise BenchmarkError(
                f"{path}:{number}: {id!r} is the id of line {first} too; give each line its own"
            )
        yield id, rest[0].strip() if rest else ""
