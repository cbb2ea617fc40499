"""The audio of a user's dialogues: what an assistant says becomes a clip, and what is quoted must be there."""

import dataclasses
from collections.abc import Mapping

from bagpiper_jax.corpora import assembly, user_records
from bagpiper_jax.corpora.user_audio import Converted
from bagpiper_jax.corpora.user_records import UserRecord


def with_answers_as_clips(record: UserRecord, records: Mapping[str, UserRecord]) -> list[UserRecord]:
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
        UserRecord(
            line=record.line, id=name, audio=path, split=record.split, domain=record.domain, file=record.file,
            language=record.language, licence=record.licence, source=record.source, group=record.kept_together,
        )
        for path, name in names.items()
    ]  # fmt: skip
    return [dataclasses.replace(record, dialogue=dialogue), *beside]


def broken_reference(record: UserRecord, records: Mapping, usable: Mapping) -> str:
    """The id of a quoted record that has no usable audio, or ""."""
    named = user_records.audio_messages(record.dialogue)
    quoted = [content for content in named if content != record.audio and content in records]
    return next((name for name in quoted if name not in usable or not records[name].audio), "")


def placed(record: UserRecord, converted: Mapping[str | int, Converted]) -> list[list[str]]:
    """The dialogue with audio content as clip ids, or as paths relative to the manifest."""
    messages = []
    for index, (role, modality, content) in enumerate(record.dialogue):
        if modality == "audio" and content == record.audio:
            content = record.id
        elif index in converted:
            content = f"audio/messages/{record.id}-{index}.flac"
        messages.append([role, modality, content])
    return messages
