"""What is said of a recording, as it holds for the parts that it was cut into: times follow, other words may not."""

import dataclasses
from collections.abc import Callable, Iterator

from bagpiper_jax.captions import AnnotationError, AudioAnnotation, Speaker, Turn
from bagpiper_jax.corpora.cutting import At, Span
from bagpiper_jax.corpora.user_audio import Converted, Piece, piece_name
from bagpiper_jax.corpora.user_records import UserRecord
from bagpiper_jax.outcomes import RecordError, Rejected

Describe = Callable[[UserRecord, AudioAnnotation], str]
"""Writes the caption of a record from its annotation."""

REMEDY = (
    "say which part is meant by start and end, or give what follows the cuts: captions with their times, or an "
    "annotation; where one caption holds for any part of its recording, set UserCorpusConfig.captions_hold"
)
"""For a recording that is too long, of which nothing is said that could be cut with it."""

_FAULTS = {
    "silent_audio": ("every sample is zero", "nothing: a silent part is left out"),
    "too_long_turn": ("somebody speaks on without a place to cut", "divide the turn in the annotation"),
}


def by_captions(record: UserRecord) -> list[UserRecord]:
    """A record for each caption with times, or the record itself if it has none."""
    return [
        dataclasses.replace(
            record, id=piece_name(record.id, number), start=start, seconds=round(end - start, 6), caption=caption,
            captions=(), group=record.kept_together,
        )
        for number, (start, end, caption) in enumerate(record.captions)
    ] or [record]  # fmt: skip


def mode(record: UserRecord, at: At | None, captions_hold: bool, uncaptioned: bool) -> At | None:
    """How a record's audio is cut if it is too long; None where nothing that is said of it could follow."""
    if record.dialogue or record.transcript:
        return None
    may_be_cut = record.annotation or (captions_hold if record.caption else uncaptioned)
    return at if may_be_cut else None


def spoken(record: UserRecord) -> tuple[Span, ...]:
    """The spans in which somebody speaks, in seconds of the audio file."""
    return tuple((turn["start"], turn["end"]) for turn in (record.annotation or {}).get("turns", ()))


def parts(
    record: UserRecord, file: Converted, captions_hold: bool, describe: Describe
) -> Iterator[tuple[UserRecord, Converted | Rejected]]:
    """The clips that a record with audio becomes, each with its file, or with why it is left out.

    Raises:
        RecordError: `cut_turn`: the part that the record asks for begins or ends while somebody speaks.
    """
    if not file.pieces:
        end = record.start + file.seconds
        yield (_part(record, record.start, end, True, describe) if record.is_part else record), file
        return
    for number, piece in enumerate(file.pieces):
        named = dataclasses.replace(
            record, id=piece_name(record.id, number), start=piece.start,
            seconds=round(piece.end - piece.start, 6), group=record.kept_together,
        )  # fmt: skip
        yield _piece(named, piece, captions_hold, describe)


def _piece(
    record: UserRecord, piece: Piece, captions_hold: bool, describe: Describe
) -> tuple[UserRecord, Converted | Rejected]:
    where = f"{piece.start:g} to {piece.end:g} s"
    if piece.fault:
        detail, remedy = _FAULTS[piece.fault]
        return record, Rejected(piece.fault, f"{where}: {detail}", remedy)
    found = _part(record, piece.start, piece.end, captions_hold, describe)
    if found.annotation and found.is_described and not AudioAnnotation.from_json(found.annotation).events():
        return record, Rejected("nothing_annotated", where, "annotate what is heard there, or leave it out")
    seconds = round(piece.end - piece.start, 6)
    return found, Converted(seconds, seconds, folder="audio/pieces")


def _part(
    record: UserRecord, start: float, end: float, caption_holds: bool, describe: Describe
) -> UserRecord:
    """The record with its annotation cut to a part, and its caption written anew if it does not hold for the part."""
    if record.annotation is None:
        return record
    try:
        annotation = AudioAnnotation.from_json(record.annotation).part(start, end)
    except AnnotationError as error:
        raise RecordError("cut_turn", str(error), "move start or end to where nobody speaks") from error
    found = dataclasses.replace(record, annotation=annotation.to_json())
    if record.caption and caption_holds and not record.is_described:
        return found
    return dataclasses.replace(found, caption=describe(record, annotation), is_described=True)


def with_transcript(record: UserRecord, file: Converted, language: str, describe: Describe) -> UserRecord:
    """The record with its transcript as one turn, now that the length of the audio is known."""
    if not record.transcript:
        return record
    speaker = record.speaker or "S1"
    turn = Turn(speaker, 0.0, file.seconds, record.transcript, record.language or language)
    annotation = AudioAnnotation(file.seconds, turns=(turn,), speakers=(Speaker(speaker),))
    caption = record.caption or describe(record, annotation)
    domain = record.domain or "speech"
    return dataclasses.replace(record, annotation=annotation.to_json(), caption=caption, domain=domain)
