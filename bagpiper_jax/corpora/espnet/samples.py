"""Samples of ESPnet's datasets: the entries joined by id, each sample a record or a reject."""

import collections
import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from bagpiper_jax import audio, files
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.clip_readers import MAX_BYTES, ClipWithAudio, Defaults, clip_of, read_part
from bagpiper_jax.corpora.espnet import readers
from bagpiper_jax.corpora.espnet.readers import Audio, Payload, Value
from bagpiper_jax.corpora.espnet.specifiers import Dataset, Specifier, read_dataset
from bagpiper_jax.corpora.user_audio import LONGEST_RECORDING
from bagpiper_jax.corpora.user_records import is_audio_message
from bagpiper_jax.outcomes import RecordError

DIRECTIONS = {
    "text_to_audio": "caption_to_audio",
    "audio_to_text": "audio_to_caption",
    "text_only": "text_only",
}
"""ESPnet's task → ours."""

Sample = tuple[str, list[Value]]
"""Id, and values in the order of the dataset's entries."""


def joined(dataset: Dataset, lengths: Collection[str] | None = None) -> Iterator[Sample | Reject]:
    """Every sample of a dataset, and a reject for whatever of its files is not one.

    Args:
        lengths: the samples that have a length, or None where that does not matter.
    """
    wanted, here = collections.Counter(dataset.samples), Value(str(dataset.path), 0, None)
    sources, unreadable = {}, set()
    for entry in dataset.entries:
        sources[entry.name], rejects = readers.read(entry, wanted)
        yield from rejects
        unreadable |= {reject.id for reject in rejects if reject.reason != "duplicate_id"}
    for sample, count in wanted.items():
        for _ in range(count - 1):
            twice = RecordError("duplicate_id", f"{sample} stands there {count} times", "name it once")
            yield reject(here, sample, twice)
        missing = [name for name, values in sources.items() if sample not in values]
        if missing and sample not in unreadable:
            detail = f"{sample} has no {', '.join(missing)}"
            yield reject(here, sample, RecordError("missing_entry", detail, "repair the dataset JSON"))
        elif not missing and lengths is not None and sample not in lengths:
            remedy = "run ESPnet's prepare_length_stats again, or leave EspnetCorpusConfig.stats empty"
            yield reject(here, sample, RecordError("no_length", f"{sample} is in no length file", remedy))
        elif not missing:
            yield sample, [sources[entry.name][sample] for entry in dataset.entries]


def reject(where: Value, sample: str, error: RecordError) -> Reject:
    return Reject.by(error, where.file, where.line, sample)


def record_id(name: str, sample: str) -> str:
    """A sample's id in the manifest."""
    return assembly.safe_id(f"{name}.{sample}")


def directions(specifier: Specifier) -> tuple[str, ...]:
    """The pre-training tasks that a sample may serve: only its own."""
    return (DIRECTIONS[specifier.task],) if specifier.task in DIRECTIONS else ()


def fields(specifier: Specifier, sample: str, values: list[Value], root: Path) -> tuple[dict, Audio | None]:
    """Fields of `user_records`, and the sample's audio.

    Raises:
        RecordError: a payload is damaged, or is a dialogue that names files outside `root`.
    """
    content = [_loaded(v.content, root) if isinstance(v.content, Payload) else v.content for v in values]
    heard = next((c for c in content if isinstance(c, Audio)), None)
    found: dict = {"id": record_id(specifier.name, sample), "source": specifier.name}
    if specifier.task == "dialogue":
        found["dialogue"] = content[0]
    else:
        found["caption" if heard else "text"] = next(c for c in content if c is not heard)
    if not heard and specifier.task in ("text_to_audio", "audio_to_text"):
        raise RecordError("no_audio", f"entry audio1 of {sample} is text", "give audio1 a reader of audio")
    return found, heard


def _loaded(payload: Payload, root: Path) -> object:
    """What an archive holds. An archive may come from anyone, so its dialogues name no file elsewhere."""
    content = payload.load()
    for message in content if isinstance(content, list) else ():
        if is_audio_message(message) and not files.is_within(root, message[2]):
            detail = f"the dialogue names {message[2][:200]!r}, which lies outside {root}"
            raise RecordError("outside_audio", detail, "copy the file there and name it by a relative path")
    return content


class EspnetReader:
    """`clip_readers.ClipReader` over datasets. Raises CorpusError: a file is missing or of another form.

    What an assistant says as audio is left to the code store, by the name it has in the dialogue.
    """

    def __init__(self, specifiers: list[Specifier], root: Path, split: str, defaults: Defaults = Defaults()):
        self._root, self._split, self._defaults = root, split, defaults
        self._datasets = [read_dataset(specifier, root) for specifier in specifiers]
        self._records = [
            (specifier, record)
            for specifier, dataset in zip(specifiers, self._datasets, strict=True)
            for record in joined(dataset)
        ]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> ClipWithAudio:
        specifier, record = self._records[number]
        if isinstance(record, Reject):
            raise RecordError(record.reason, record.detail, record.remedy)
        found, heard = fields(specifier, *record, self._root)
        sounds = {}
        if heard:
            found["audio"] = found["id"]
            sounds[found["id"]] = self._sound(heard)
        for message in found.get("dialogue", ()):
            if _is_heard(message):
                sounds[message[2]] = self._sound(Audio(message[2]))
        return ClipWithAudio(clip_of(found, self._split, self._defaults, directions(specifier)), sounds)

    def origin(self, number: int) -> str:
        record = self._records[number][1]
        if isinstance(record, Reject):
            return f"{record.file}:{record.line}: {record.id}"
        sample, values = record
        return f"{values[0].file}:{values[0].line}: {sample}"

    def files(self) -> list[Path]:
        entries = [entry.path for dataset in self._datasets for entry in dataset.entries]
        used = {self._root / path for _, record in self._records for path in _paths(record, self._root)}
        return [
            *(dataset.path for dataset in self._datasets),
            *(p for p in entries if p.is_file()),
            *sorted(used),
        ]

    def _sound(self, heard: Audio) -> bytes:
        """The encoded file, or the part of it that is meant."""
        path = self._root / heard.path
        data = read_part(path, heard.offset, heard.size) if heard.size else _whole(path)
        if not heard.start and heard.seconds is None:
            return data
        try:
            samples = audio.read(data, max_seconds=LONGEST_RECORDING)
        except audio.AudioError as error:
            raise RecordError(
                f"{error.reason}_audio", f"{path}: {error.detail}", audio.REMEDIES[error.reason]
            ) from error
        begin = round(heard.start * audio.SAMPLE_RATE)
        end = len(samples) if heard.seconds is None else begin + round(heard.seconds * audio.SAMPLE_RATE)
        if not begin < end <= len(samples):
            detail = f"samples {begin} to {end} of {len(samples)} of {path}"
            raise RecordError("part_out_of_range", detail, "repair start and duration")
        return audio.encode_flac(samples[begin:end])


def _paths(record: Sample | Reject, root: Path) -> Iterator[str]:
    """Files of audio and payloads that a sample needs."""
    for value in () if isinstance(record, Reject) else record[1]:
        content = value.content
        if isinstance(content, Audio | Payload):
            yield content.path
        if isinstance(content, Payload) and content.is_dialogue:
            with contextlib.suppress(RecordError):  # a fault of the sample, told when it is read
                content = _loaded(content, root)
        if isinstance(content, list):
            yield from (message[2] for message in content if _is_heard(message))


def _is_heard(message: object) -> bool:
    return is_audio_message(message) and message[0] != "assistant"


def _whole(path: Path) -> bytes:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordError("missing_audio", f"{path}: {error.strerror}", audio.REMEDIES["missing"]) from error
    if not size:
        raise RecordError("empty_audio", f"{path} has no bytes", audio.REMEDIES["empty"])
    if size > MAX_BYTES:
        raise RecordError("too_large", f"{path} has {size} bytes", "cut the recording into pieces")
    return read_part(path, 0, size)
