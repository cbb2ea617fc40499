"""Manifests of speech toolkits: NeMo's JSONL, Lhotse's cuts and recordings, Kaldi's data directories.

Nothing of a file is ever run: a Kaldi pipe is a reject, not a command.
"""

import collections
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.sources.given import Given, lines, objects, seconds, spoken
from bagpiper_jax.outcomes import RecordError

_PIPE = "write its output to a file; nothing is run here"


def nemo(path: Path) -> Iterator[Given]:
    """A NeMo manifest: `audio_filepath`, `offset`, `duration`, `text`."""
    return objects(path, _nemo)


def _nemo(value: dict) -> dict:
    found = {"audio": value.get("audio_filepath"), **spoken(value.get("text"))}
    if (start := seconds(value, "offset", 0.0)) > 0:
        found |= {"start": start, "end": start + seconds(value, "duration")}
    shared = {
        name: value[name]
        for name in ("id", "speaker", "caption", "split")
        if isinstance(value.get(name), str)
    }
    language = value.get("lang", value.get("language"))
    return found | shared | ({"language": language} if isinstance(language, str) else {})


def lhotse_cuts(path: Path) -> Iterator[Given]:
    """Cuts of one recording each, with their supervisions."""
    return objects(path, _cut)


def _cut(value: dict) -> dict:
    recording = value.get("recording")
    if not isinstance(recording, dict):
        raise _unsupported("a cut without a recording of its own, such as a mix or padding")
    start, length = seconds(value, "start", 0.0), seconds(recording, "duration")
    end = min(start + seconds(value, "duration"), length)
    said = [_turn(each, start, start, end) for each in value.get("supervisions") or ()]
    part = {} if start == 0 and abs(end - length) < 0.01 else {"start": start, "end": end}
    channel = value.get("channel", 0)
    if (min(channel) if isinstance(channel, list) and channel else channel) != 0:
        raise _unsupported(f"channel {channel}")
    return {"id": value.get("id"), "audio": sound_of(recording), **part, **_annotated(said, length)}


def lhotse_recordings(recordings: Path, supervisions: Path | None) -> Iterator[Given]:
    """Recordings, each with all its supervisions as turns."""
    said = collections.defaultdict(list)
    for given in objects(supervisions) if supervisions else ():
        try:
            value = given.load()
            said[value.get("recording_id")].append(value)
        except RecordError:
            yield given  # which says so again where it is counted
    yield from objects(recordings, functools.partial(_recording, said))


def _recording(said: Mapping[str, list], value: dict) -> dict:
    length = seconds(value, "duration")
    turns = [_turn(each, 0.0, 0.0, length) for each in said.get(value.get("id", ""), ())]
    return {"id": value.get("id"), "audio": sound_of(value), **_annotated(turns, length)}


def _turn(value: dict, since: float, first: float, last: float) -> tuple[dict, dict] | None:
    """(turn, speaker) in seconds of the recording, within a part of it; None without words."""
    words = value.get("text")
    begin = max(first, since + float(value.get("start") or 0.0))
    end = min(last, since + float(value.get("start") or 0.0) + seconds(value, "duration"))
    if not isinstance(words, str) or not words.strip() or not end > begin:
        return None
    speaker = {"id": str(value.get("speaker") or "S1")}
    if isinstance(value.get("gender"), str):
        speaker["gender"] = value["gender"]
    return {"speaker": speaker["id"], "start": round(begin, 6), "end": round(end, 6), "text": words}, speaker


def _annotated(said: list[tuple[dict, dict] | None], length: float) -> dict:
    turns = [turn for each in said if each for turn in each[:1]]
    speakers = {speaker["id"]: speaker for each in said if each for speaker in each[1:]}
    if not turns:
        return {}
    return {
        "annotation": {"duration": length, "turns": turns, "speakers": list(speakers.values())},
        "domain": "speech",
    }


def sound_of(recording: Mapping) -> str:
    """The one file of a Lhotse recording. Raises RecordError `unsupported_audio`."""
    sources = recording.get("sources")
    if recording.get("transforms"):
        raise _unsupported("transforms, which would have to be computed")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise _unsupported("not exactly one source")
    kind, path = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(path, str):
        raise _unsupported(f"a source of type {kind!r}")
    return path


def _unsupported(detail: str) -> RecordError:
    return RecordError("unsupported_audio", detail, "write the audio to a file of its own")


def kaldi(directory: Path) -> Iterator[Given]:
    """A data directory: `wav.scp`, `text`, and `segments`, `utt2spk`, `utt2lang` where they are there."""
    sounds = _two_columns(directory / "wav.scp")
    tables = {name: _two_columns(directory / name) for name in ("text", "utt2spk", "utt2lang")}
    segments = directory / "segments"
    if not segments.is_file():
        for name, (number, _) in sounds.items():
            load = functools.partial(_utterance, name, name, {}, sounds, tables, directory)
            yield Given(str(directory / "wav.scp"), number, load)
        return
    for name, (number, rest) in _two_columns(segments).items():
        yield Given(str(segments), number, functools.partial(_segment, name, rest, sounds, tables, directory))


def _segment(name: str, rest: str, sounds: Mapping, tables: Mapping, directory: Path) -> dict:
    try:
        recording, start, end = rest.split()
        times = {"start": float(start)} | ({"end": float(end)} if float(end) >= 0 else {})
    except ValueError as error:
        raise RecordError("bad_line", rest[:80], "write utterance, recording, start and end") from error
    return _utterance(name, recording, times, sounds, tables, directory)


def _utterance(
    name: str, recording: str, times: dict, sounds: Mapping, tables: Mapping, directory: Path
) -> dict:
    path = sounds.get(recording, (0, ""))[1]
    if not path:
        raise RecordError("missing_audio", f"no recording {recording} in wav.scp", "add its line")
    if path.endswith("|"):
        raise RecordError("piped_audio", f"a command, not a file: {path[:80]}", _PIPE)
    told = {kind: table[name][1] for kind, table in tables.items() if name in table}
    found = {"id": name, "audio": _placed(path, directory), **times, **spoken(told.get("text"))}
    found |= {"speaker": told["utt2spk"]} if "utt2spk" in told else {}
    return found | ({"language": told["utt2lang"]} if "utt2lang" in told else {})


def _placed(path: str, directory: Path) -> str:
    """Paths are relative to where the recipe ran, which is mostly some folders above its data."""
    for folder in (directory, *list(directory.resolve().parents)[:3]):
        if (folder / path).is_file():
            return os.path.relpath(folder / path, directory) if not os.path.isabs(path) else path
    return path


def _two_columns(path: Path) -> dict[str, tuple[int, str]]:
    """First word of each line → its number, and what stands behind; {} if there is no such file."""
    found: dict[str, tuple[int, str]] = {}
    for number, line in lines(path) if path.is_file() else ():
        try:
            name, *rest = line.decode("utf-8").strip().split(maxsplit=1)
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path}:{number}: {error}; save the file as UTF-8") from error
        if name in found:
            raise CorpusError(
                f"{path}:{number}: {name} stands on line {found[name][0]} too; keep one of them"
            )
        found[name] = number, rest[0] if rest else ""
    return found
