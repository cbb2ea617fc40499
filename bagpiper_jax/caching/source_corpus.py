"""Builds a corpus out of a SeqIO source that carries its audio: tars, Parquet tables, ESPnet's datasets, TFDS.

Tasks that only listen read such sources as they are. Codes are made of corpora in manifest form, so this is what comes
before `tokenize_audio`. Loads TensorFlow.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from bagpiper_jax import audio, outcomes
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.user_audio import within_range, write_flac
from bagpiper_jax.corpora.user_records import audio_messages
from bagpiper_jax.journal import Results
from bagpiper_jax.manifest import Clip, is_id
from bagpiper_jax.outcomes import Fatal, RecordError, Rejected
from bagpiper_jax.task_modules import load_task_modules


@dataclasses.dataclass(frozen=True)
class SourceCorpusConfig:
    """A corpus out of the source of a SeqIO task.

    Attributes:
        task: the task whose source is written out.
        directory: the directory that the corpus is written to.
        data_root: the directory that the source's paths are relative to.
        task_modules: modules whose import registers the task.
        splits: the splits of the source that are written; None for all.
        min_seconds, max_seconds: accepted length of clips.
        max_reject_frac: the build fails if more of the records are rejected.
    """

    task: str
    directory: str
    data_root: str = "corpora"
    task_modules: tuple[str, ...] = ("tasks.mixtures",)
    splits: tuple[str, ...] | None = None
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    max_reject_frac: float = 0.1


def build(config: SourceCorpusConfig) -> Path:
    """Writes audio, manifest and rejects; a killed build continues. Returns the corpus's directory.

    Raises:
        CorpusError: no such task, a source that carries no audio, files that cannot be used, too many rejects.
    """
    directory = Path(config.directory)
    assembly.begin(directory, "source")
    source = _source(config)
    journal = Results(directory / assembly.JOURNAL)
    clips: dict[str, Clip] = {}
    rejects: list[Reject] = []
    try:
        for split in config.splits or source.splits:
            for number, example in enumerate(source.read_shard(split, 0, 1)):
                try:
                    clip = _written(example, f"{split}/{number}", directory, journal, config)
                    if clips.setdefault(clip.id, clip) is not clip:
                        raise RecordError(
                            "duplicate_id", f"{clip.id} was read before", "give each clip its own id"
                        )
                except Exception as error:
                    origin = example["origin"].decode("utf-8", "replace")
                    rejects.append(Reject.by(assembly.fault_of(error), origin, 0, ""))
    finally:
        journal.close()
    facts = {"corpus": "source", "config": dataclasses.asdict(config), "source": repr(source)}
    return assembly.finish(directory, list(clips.values()), rejects, facts, config.max_reject_frac)


def _source(config: SourceCorpusConfig):
    import seqio

    load_task_modules(config.task_modules)
    from tasks import settings
    from tasks.clip_source import ClipSource

    if config.task not in seqio.TaskRegistry.names():
        raise CorpusError(f"no task {config.task!r} is registered by {', '.join(config.task_modules)}")
    source = seqio.TaskRegistry.get(config.task).source
    if not isinstance(source, ClipSource):
        raise CorpusError(
            f"task {config.task} reads {source!r}, which is a corpus already or carries no audio"
        )
    settings.configure(settings.Settings(data_root=config.data_root, max_seconds=config.max_seconds))
    return source


def _written(example: dict, key: str, directory: Path, journal: Results, config: SourceCorpusConfig) -> Clip:
    """The clip with its audio, and that of its dialogue, as files of the corpus. Raises RecordError, WriteError."""
    match outcomes.decode(example["fault"]):
        case Fatal(explanation):
            raise CorpusError(explanation)
        case Rejected(reason, detail, remedy):
            raise RecordError(reason, detail, remedy)
    clip = Clip(**json.loads(example["clip"]))
    sounds = dict(zip((name.decode() for name in example["sound_names"]), example["sounds"], strict=True))
    paths = {name: _path(clip, name, number) for number, name in enumerate(sounds)}
    content = _content(clip, sounds, config)
    known = journal.get(key)
    if not (known and known["content"] == content and all((directory / p).is_file() for p in paths.values())):
        seconds = {name: _write(directory / paths[name], sound, config) for name, sound in sounds.items()}
        known = {"content": content, "seconds": seconds}
        journal.add(key, known)
    said = paths | ({clip.audio: clip.id} if clip.audio else {})
    for content in set(audio_messages(clip.dialogue)) - set(said):
        if not is_id(content):
            detail = f"the dialogue names the file {content[:200]!r}, which did not come with the record"
            raise RecordError(
                "outside_audio", detail, "put the audio into the tar or table, or name a clip by its id"
            )
    return dataclasses.replace(
        clip,
        audio=paths[clip.audio] if clip.audio else None,
        duration=known["seconds"].get(clip.audio, sum(known["seconds"].values())),
        dialogue=clip.dialogue
        and [[r, m, said.get(c, c) if m == "audio" else c] for r, m, c in clip.dialogue],
    )


def _path(clip: Clip, name: str, number: int) -> str:
    return f"audio/{clip.id}.flac" if name == clip.audio else f"audio/messages/{clip.id}-{number}.flac"


def _content(clip: Clip, sounds: dict[str, bytes], config: SourceCorpusConfig) -> str:
    """Changes with what was read and with the limits that it was judged by."""
    hashes = [hashlib.sha256(sound).hexdigest() for sound in sounds.values()]
    return assembly.digest(vars(clip), hashes, config.min_seconds, config.max_seconds)


def _write(path: Path, sound: bytes, config: SourceCorpusConfig) -> float:
    """Writes a sound as 16 kHz mono FLAC and returns its seconds. Raises AudioError, RecordError, WriteError."""
    samples = audio.read(sound, max_seconds=config.max_seconds, min_seconds=config.min_seconds)
    write_flac(path, within_range(samples))
    return round(len(samples) / audio.SAMPLE_RATE, 6)
