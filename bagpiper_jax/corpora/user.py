"""Bring your own data: a folder, a table or a manifest of audio and what is said about it becomes a corpus.

What can be read stands in `sources`, and its fields are those of `user_records`. Audio of any rate, channel count or
container that `audio.read` knows is copied as 16 kHz mono FLAC; the sources are never touched. Every record that cannot
be used is counted and listed.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.captions import AnnotationError, AudioAnnotation, CaptionFilter, describe
from bagpiper_jax.corpora import assembly, user_cuts, user_dialogues, user_records, user_splits
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.sources import Source, open_source
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
        source: a JSONL, CSV, TSV, Parquet or Arrow file; a folder of audio files, or a data set of Hugging Face; a
            manifest of NeMo, Lhotse or Kaldi (docs/your_data.md).
        directory: where the corpus is written; not the folder of `source`, nor within it.
        default_domain, default_language, default_licence: for records that state none.
        held_out: share of the groups that goes to validation, and as much again to test, where none is stated.
        seed: of the splits and of captions rendered from annotations.
        min_seconds, max_seconds: accepted length of audio; the maximum is the published filter (docs/reference.md, Rich
            captions).
        cut: what becomes of recordings over `max_seconds` of which an annotation tells: they are cut where it is quiet
            ("silence"), into equal windows ("windows"), or rejected ("never").
        captions_hold: whether the caption of a recording is true of any part of it, so that it may be cut as well.
        uncaptioned: whether audio of which nothing is said is kept, for `caption_audio`.
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
    cut: Literal["silence", "windows", "never"] = "silence"
    captions_hold: bool = False
    uncaptioned: bool = False
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
    opened = open_source(source, directory / "unpacked")
    if directory.resolve() == source.parent.resolve() and not source.is_dir():
        raise CorpusError(
            f"directory {directory} holds the source itself; choose another, or it would be overwritten"
        )
    if source.is_dir() and files.is_within(source, directory.absolute()):
        raise CorpusError(
            f"directory {directory} lies in the source; choose another, or it would be read again"
        )
    assembly.begin(directory, "user")
    _log.info("%s is read as a %s", source, opened.kind)
    records, rejects = _read(config, opened)
    if not records and not rejects:
        assembly.finish(directory, [], [], {"source": source})
    facts = {
        "corpus": "user", "source": source.name, "kind": opened.kind, "source_sha256": opened.sha256(),
        "config": dataclasses.asdict(dataclasses.replace(config, source=source.name, directory="")),
    }  # fmt: skip
    finish(config, records, rejects, opened.root, facts)
    user_splits.warn_of_empty(directory)
    return directory


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
    records = {
        r.id: r for record in records.values() for r in user_dialogues.with_answers_as_clips(record, records)
    }
    conversions = [
        c for record in records.values() for c in _conversions(config, record, root, directory, records)
    ]
    results = convert_all(conversions, directory, config.workers)
    clips = _clips(config, records, conversions, results, rejects)
    rejects.sort(key=lambda reject: (reject.file, reject.line))
    user_splits.warn_of_straddling(clips)
    return assembly.finish(directory, clips, rejects, facts, config.max_reject_frac)


def _read(config: UserCorpusConfig, source: Source) -> tuple[dict[str, UserRecord], list[Reject]]:
    """The usable records by id in order of the source, and the rejects so far."""
    records, rejects, unknown = {}, [], []
    for given in source.records():
        value = {}
        try:
            value = given.load()
            unknown += user_records.unknown_fields(value)
            parsed = user_records.parse(value, given.line, config.max_chars, config.uncaptioned)
            for record in user_cuts.by_captions(dataclasses.replace(parsed, file=given.file)):
                _require_new(record, records)
                records[record.id] = _with_caption(config, record)
        except Exception as error:
            fault = assembly.fault_of(error)
            rejects.append(Reject.by(fault, given.file, given.line, str(value.get("id", ""))[:200]))
    if unknown:
        _log.warning("%s: ignored fields: %s", config.source, assembly.count(unknown))
    return records, rejects


def _require_new(record: UserRecord, records: Mapping[str, UserRecord]) -> None:
    if first := records.get(record.id):
        where = f"line {first.line}" if first.line else first.file
        raise RecordError("duplicate_id", f"id {record.id} is that of {where}", "give each its own id")


def _with_caption(config: UserCorpusConfig, record: UserRecord) -> UserRecord:
    """Checks the annotation; writes a caption from it where none is given."""
    if record.annotation is None:
        return record
    try:
        annotation = AudioAnnotation.from_json(record.annotation)
        caption = record.caption or _described(config, record, annotation)
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error), "repair the annotation, or give a caption") from error
    is_described = not record.caption
    return dataclasses.replace(
        record, annotation=annotation.to_json(), caption=caption, is_described=is_described
    )


def _described(config: UserCorpusConfig, record: UserRecord, annotation: AudioAnnotation) -> str:
    """The caption of a record, in wordings that follow from its id."""
    generator = np.random.default_rng(int(assembly.digest(config.seed, record.id), 16))
    return describe(annotation, "flowing", generator)


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
    at = None if config.cut == "never" else config.cut
    cut = user_cuts.mode(record, at, config.captions_hold, config.uncaptioned)
    spoken = user_cuts.spoken(record) if cut else ()
    part = {"main": (record.start, record.seconds, record.offset, record.size, cut, spoken)}
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
    failed: dict[str, Rejected] = {}
    for conversion in conversions:
        result = results[conversion]
        if isinstance(result, Converted):
            converted[conversion.record][conversion.slot] = result
        else:
            failed.setdefault(conversion.record, result)

    def reject(record: UserRecord, fault: Rejected) -> None:
        usable.pop(record.id, None)
        rejects.append(Reject.by(fault, record.file or config.source, record.line, record.id))

    usable: dict[str, UserRecord] = {}
    for record in records.values():
        for part, file in _parts(config, record, converted[record.id].get("main"), failed.get(record.id)):
            if isinstance(file, Rejected):
                reject(part, file)
            elif part.id != record.id and part.id in records:
                reject(part, Rejected("duplicate_id", f"a piece of {record.id}", "give each its own id"))
            else:
                usable[part.id] = part
                if file:
                    converted.setdefault(part.id, {})["main"] = file
    # A dialogue may quote a record that quotes a rejected one, so look until nothing changes.
    while broken := {
        r.id: name for r in usable.values() if (name := user_dialogues.broken_reference(r, records, usable))
    }:
        for record_id, name in broken.items():
            what = "was cut into pieces" if converted[name].get("main") else "cannot be used"
            fault = Rejected(
                "broken_reference", f"the dialogue needs {name}, which {what}", f"repair record {name}"
            )
            reject(records[record_id], fault)
    splits = user_splits.splits_of(usable.values(), config.seed, config.held_out)
    return [_clip(config, record, converted[record.id], splits) for record in usable.values()]


def _parts(
    config: UserCorpusConfig, record: UserRecord, file: Converted | None, fault: Rejected | None
) -> list[tuple[UserRecord, Converted | Rejected | None]]:
    """The clips of a record now that the length of its audio is known, each with its file or with what is wrong."""
    if fault and fault.reason == "too_long_audio" and not record.dialogue:
        fault = dataclasses.replace(fault, remedy=user_cuts.REMEDY)
    if fault or not file:
        return [(record, fault)]
    try:
        if record.annotation and abs(record.annotation["duration"] - file.recording) > _MAX_DRIFT:
            told = f"the annotation tells of {record.annotation['duration']:g} s"
            detail = f"{told}, the audio lasts {file.recording:g} s"
            return [(record, Rejected("duration_mismatch", detail, "check that they belong together"))]
        describe = functools.partial(_described, config)
        found = user_cuts.parts(record, file, config.captions_hold, describe)
        return [
            (part, each) if isinstance(each, Rejected) else _told(config, part, each) for part, each in found
        ]
    except Exception as error:
        return [(record, Rejected.by(assembly.fault_of(error)))]


def _told(
    config: UserCorpusConfig, record: UserRecord, file: Converted
) -> tuple[UserRecord, Converted | Rejected]:
    """The record with what its transcript tells, and its file, unless the caption fails the filter."""
    describe = functools.partial(_described, config)
    record = user_cuts.with_transcript(record, file, config.default_language, describe)
    if not (config.caption_filter and record.caption):
        return record, file
    if not (reason := config.caption_filter.reason(record.caption, file.seconds)):
        return record, file
    detail = f"caption {record.caption[:60]!r} …"
    return record, Rejected(f"caption_{reason}", detail, "rewrite the caption, or loosen CaptionFilter")


def _clip(
    config: UserCorpusConfig,
    record: UserRecord,
    converted: Mapping[str | int, Converted],
    splits: Mapping[str, str],
) -> Clip:
    lasting = [converted["main"]] if "main" in converted else converted.values()
    seconds = sum(each.seconds for each in lasting)
    has_audio = record.audio or user_records.audio_messages(record.dialogue)
    return Clip(
        id=record.id,
        split=record.split or splits[record.kept_together],
        domain=record.domain or (config.default_domain if has_audio else "text"),
        audio=f"{converted['main'].folder}/{record.id}.flac" if record.audio else None,
        duration=round(seconds, 6),
        caption=record.caption or None,
        text=record.text or None,
        annotation=record.annotation,
        dialogue=user_dialogues.placed(record, converted) or None,
        source=record.source or Path(config.source).stem,
        licence=record.licence or config.default_licence,
        language=record.language or config.default_language,
        group=record.kept_together,
        directions=list(record.directions) or None,
        start=record.start if record.is_part else None,
        end=round(record.start + seconds, 6) if record.is_part else None,
    )
