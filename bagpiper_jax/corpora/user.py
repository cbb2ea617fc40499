"""Bring your own data: a JSONL of audio and what is said about it becomes a corpus in manifest form.

Fields are those of `user_records`. Audio of any rate, channel count or container that `audio.read` knows is
copied as 16 kHz mono FLAC; the sources are never touched. Every record that cannot be used is counted and listed.
"""

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.captions import AnnotationError, AudioAnnotation, CaptionFilter, describe
from bagpiper_jax.corpora import assembly, user_records
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.user_audio import Conversion, Converted, convert_all
from bagpiper_jax.corpora.user_records import UserRecord
from bagpiper_jax.manifest import DOMAINS, Clip
from bagpiper_jax.outcomes import RecordError, Rejected

_MAX_DRIFT = 0.5
"""Seconds by which an annotation's duration may differ from its audio's."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class UserCorpusConfig:
    """A user's corpus.

    Attributes:
        source: the JSONL file.
        directory: where the corpus is written; not the folder of `source`.
        default_domain, default_language, default_licence: for records that state none.
        held_out: share of the groups that goes to validation, and as much again to test, where none is stated.
        seed: of the splits and of captions rendered from annotations.
        min_seconds, max_seconds: accepted length of audio; the maximum is the published filter (docs/reference.md, Rich
            captions).
        max_chars: longest caption, text or message.
        caption_filter: thresholds for the captions, or None to take them as they are.
        max_reject_frac: a larger share of rejected records fails the build.
        workers: processes that convert audio.
    """

    source: str
    directory: str
    default_domain: str = "mixed"
    default_language: str = "en"
    default_licence: str = "unknown"
    held_out: float = 0.05
    seed: int = 0
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    max_chars: int = 20_000
    caption_filter: CaptionFilter | None = None
    max_reject_frac: float = 0.1
    workers: int = 2

    def __post_init__(self):
        if self.default_domain not in DOMAINS:
            raise ValueError(f"default_domain {self.default_domain!r} is none of {', '.join(DOMAINS)}")
        if not 0 <= self.held_out < 0.5 or not 0 <= self.max_reject_frac <= 1:
            raise ValueError("held_out must lie in [0, 0.5) and max_reject_frac in [0, 1]")


def build(config: UserCorpusConfig) -> Path:
    """Builds the corpus and returns its directory.

    Deterministic: the same input gives the same manifest byte for byte. A killed build continues: files
    converted before are taken again as long as their sources and what is asked of them did not change.

    Raises:
        CorpusError: no source, or too many rejected records.
    """
    source, directory = Path(config.source), Path(config.directory)
    if not source.is_file():
        raise CorpusError(f"{source} does not exist; UserCorpusConfig.source must be a JSONL file")
    if directory.resolve() == source.parent.resolve():
        raise CorpusError(
            f"directory {directory} holds the source itself; choose another, or it would be overwritten"
        )
    assembly.begin(directory, "user")
    records, rejects = _read(config, source)
    if not records and not rejects:
        assembly.finish(directory, [], [], {"source": source})
    facts = {
        "corpus": "user", "source": source.name, "source_sha256": files.sha256(source),
        "config": dataclasses.asdict(dataclasses.replace(config, source=source.name, directory="")),
    }  # fmt: skip
    return finish(config, records, rejects, source.parent, facts)


def finish(
    config: UserCorpusConfig,
    records: Mapping[str, UserRecord],
    rejects: list[Reject],
    root: Path,
    facts: Mapping[str, object],
) -> Path:
    """Converts the audio of checked records, makes them clips and writes the corpus; returns its directory.

    Args:
        records: by id.
        rejects: those so far; more are added.
        root: what relative audio paths are relative to.
        facts: for the summary.

    Raises:
        CorpusError: too many rejected records.
    """
    directory = Path(config.directory)
    records = {r.id: r for record in records.values() for r in _with_answers_as_clips(record, records)}
    conversions = [
        c for record in records.values() for c in _conversions(config, record, root, directory, records)
    ]
    results = convert_all(conversions, directory, config.workers)
    clips = _clips(config, records, conversions, results, rejects)
    rejects.sort(key=lambda reject: (reject.file, reject.line))
    _warn_of_straddling(clips)
    return assembly.finish(directory, clips, rejects, facts, config.max_reject_frac)


def _read(config: UserCorpusConfig, source: Path) -> tuple[dict[str, UserRecord], list[Reject]]:
    """The usable records by id in file order, and the rejects so far."""
    records, rejects, unknown = {}, [], []
    for line, content in user_records.read_lines(source):
        value = {}
        try:
            value = user_records.load_line(content)
            unknown += user_records.unknown_fields(value)
            record = user_records.parse(value, line, config.max_chars)
            if record.id in records:
                first = records[record.id].line
                raise RecordError(
                    "duplicate_id", f"id {record.id} is that of line {first}", "give each its own id"
                )
            records[record.id] = _with_caption(config, record)
        except Exception as error:
            fault = assembly.fault_of(error)
            rejects.append(Reject.by(fault, str(source), line, str(value.get("id", ""))[:200]))
    if unknown:
        _log.warning("%s: ignored fields: %s", source, assembly.count(unknown))
    return records, rejects


def _with_caption(config: UserCorpusConfig, record: UserRecord) -> UserRecord:
    """Checks the annotation; writes a caption from it where none is given."""
    if record.annotation is None:
        return record
    try:
        annotation = AudioAnnotation.from_json(record.annotation)
        caption = record.caption or describe(annotation, "flowing", _generator(config, record))
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error), "repair the annotation, or give a caption") from error
    return dataclasses.replace(record, annotation=annotation.to_json(), caption=caption)


def _generator(config: UserCorpusConfig, record: UserRecord) -> np.random.Generator:
    return np.random.default_rng(int(assembly.digest(config.seed, record.id), 16))


def _with_answers_as_clips(record: UserRecord, records: Mapping[str, UserRecord]) -> list[UserRecord]:
    """Codec codes are made of clips alone, so audio that an assistant says must be one.

    What a dialogue gives by path becomes the record's own audio where it has none, else a clip beside it.
    """
    said = dict.fromkeys(c for role, kind, c in record.dialogue if (role, kind) == ("assistant", "audio"))
    paths = [content for content in said if content != record.audio and content not in records]
    if paths and not record.audio:
        record = dataclasses.replace(record, audio=paths.pop(0))
    names = {path: f"{record.id[:90]}-{assembly.digest(record.id, path)[:8]}" for path in paths}
    dialogue = tuple((r, m, names.get(c, c) if m == "audio" else c) for r, m, c in record.dialogue)
    beside = [
        dataclasses.replace(
            record,
            id=name,
            audio=path,
            dialogue=(),
            caption="",
            text="",
            annotation=None,
            group=_group(record),
        )
        for path, name in names.items()
    ]
    return [dataclasses.replace(record, dialogue=dialogue), *beside]


def _conversions(
    config: UserCorpusConfig,
    record: UserRecord,
    root: Path,
    directory: Path,
    records: Mapping[str, UserRecord],
) -> list[Conversion]:
    """The files that a record needs."""
    wanted = [("main", record.audio, directory / "audio" / f"{record.id}.flac")] if record.audio else []
    for index, (_, modality, content) in enumerate(record.dialogue):
        if modality == "audio" and content != record.audio and content not in records:
            wanted.append((index, content, directory / "audio" / "messages" / f"{record.id}-{index}.flac"))
    limits = config.min_seconds, config.max_seconds
    part = {"main": (record.start, record.seconds, record.offset, record.size)}
    return [
        Conversion(record.id, slot, os.fspath(root / path), os.fspath(target), *limits, *part.get(slot, ()))
        for slot, path, target in wanted
    ]


def _clips(
    config: UserCorpusConfig,
    records: Mapping[str, UserRecord],
    conversions: Iterable[Conversion],
    results: Mapping[Conversion, Converted | Rejected],
    rejects: list[Reject],
) -> list[Clip]:
    """Clips in file order; records with unusable audio are added to `rejects`."""
    converted: dict[str, dict[str | int, Converted]] = {record_id: {} for record_id in records}
    usable, failed = dict(records), {}
    for conversion in conversions:
        result = results[conversion]
        if isinstance(result, Converted):
            converted[conversion.record][conversion.slot] = result
        else:
            failed.setdefault(conversion.record, result)

    def reject(record: UserRecord, fault: Rejected) -> None:
        del usable[record.id]
        rejects.append(Reject.by(fault, record.file or config.source, record.line, record.id))

    for record in records.values():
        try:
            fault = failed.get(record.id) or _fault_with_audio(
                config, record, converted[record.id].get("main")
            )
        except Exception as error:
            fault = Rejected.by(assembly.fault_of(error))
        if fault:
            reject(record, fault)
    # A dialogue may quote a record that quotes a rejected one, so look until nothing changes.
    while broken := {r.id: name for r in usable.values() if (name := _broken_reference(r, records, usable))}:
        for record_id, name in broken.items():
            fault = Rejected("broken_reference", f"the dialogue needs {name}", f"repair record {name}")
            reject(records[record_id], fault)
    splits = _splits(config, usable.values())
    return [_clip(config, record, converted[record.id], splits) for record in usable.values()]


def _fault_with_audio(
    config: UserCorpusConfig, record: UserRecord, file: Converted | None
) -> Rejected | None:
    """What is wrong with the record now that the length of its audio is known, or None."""
    if file is None:
        return None
    claimed = record.annotation["duration"] if record.annotation else file.seconds
    if abs(claimed - file.seconds) > _MAX_DRIFT:
        detail = f"the annotation tells of {claimed:g} s, the audio lasts {file.seconds:g} s"
        return Rejected("duration_mismatch", detail, "check that they belong together")
    if config.caption_filter and record.caption:
        if reason := config.caption_filter.reason(record.caption, file.seconds):
            detail = f"caption {record.caption[:60]!r} …"
            return Rejected(f"caption_{reason}", detail, "rewrite the caption, or loosen CaptionFilter")
    return None


def _broken_reference(record: UserRecord, records: Mapping, usable: Mapping) -> str:
    """The id of a quoted record that has no usable audio, or ""."""
    named = user_records.audio_messages(record.dialogue)
    quoted = [content for content in named if content != record.audio and content in records]
    return next((name for name in quoted if name not in usable or not records[name].audio), "")


def _splits(config: UserCorpusConfig, records: Iterable[UserRecord]) -> dict[str, str]:
    """Group → split for records that state none: that of a fellow member who states one, else by hash."""
    splits = {}
    for record in records:
        if record.split:
            splits.setdefault(_group(record), record.split)
    for record in records:
        group = _group(record)
        splits.setdefault(group, assembly.hash_split(group, config.seed, config.held_out))
    return splits


def _group(record: UserRecord) -> str:
    """What must stay within one split; the audio file by default, as two records may describe it."""
    return record.group or record.audio or record.id


def _clip(
    config: UserCorpusConfig,
    record: UserRecord,
    converted: Mapping[str | int, Converted],
    splits: Mapping[str, str],
) -> Clip:
    group = _group(record)
    lasting = [converted["main"]] if "main" in converted else converted.values()
    seconds = sum(each.seconds for each in lasting)
    has_audio = record.audio or user_records.audio_messages(record.dialogue)
    return Clip(
        id=record.id,
        split=record.split or splits[group],
        domain=record.domain or (config.default_domain if has_audio else "text"),
        audio=f"audio/{record.id}.flac" if record.audio else None,
        duration=round(seconds, 6),
        caption=record.caption or None,
        text=record.text or None,
        annotation=record.annotation,
        dialogue=_dialogue(record, converted) or None,
        source=record.source or Path(config.source).stem,
        licence=record.licence or config.default_licence,
        language=record.language or config.default_language,
        group=group,
        directions=list(record.directions) or None,
    )


def _dialogue(record: UserRecord, converted: Mapping[str | int, Converted]) -> list[list[str]]:
    """The dialogue with audio content as clip ids, or as paths relative to the manifest."""
    messages = []
    for index, (role, modality, content) in enumerate(record.dialogue):
        if modality == "audio" and content == record.audio:
            content = record.id
        elif index in converted:
            content = f"audio/messages/{record.id}-{index}.flac"
        messages.append([role, modality, content])
    return messages


def _warn_of_straddling(clips: Sequence[Clip]) -> None:
    groups = assembly.straddling(clips)
    if groups:
        _log.warning("%d groups stand in several splits, as the source states: %s …", len(groups), groups[:3])
