"""Tags of captions by a model that reads: type, language, focus and three scores (docs/reference.md, Rich captions)."""

import dataclasses
from pathlib import Path

from bagpiper_jax.curation.derived import SourceClip
from bagpiper_jax.curation.endpoint.asking import AskingConfig, clip_by_clip, run
from bagpiper_jax.curation.endpoint.client import Client, text_question
from bagpiper_jax.curation.endpoint.replies import read_object, unreadable
from bagpiper_jax.curation.selection.quality import AUDIO_TYPES
from bagpiper_jax.manifest import Clip

BOOLEANS = ("is_pure_english", "is_audio_focused")
SCORES = ("intelligibility", "complexity", "diversity")
_RANGE = range(1, 6)


@dataclasses.dataclass(frozen=True)
class TagConfig(AskingConfig):
    """Which corpora's captions to tag; records without a caption pass. Tags become `Clip.metrics`.

    Attributes:
        temperature, max_tokens: the sampling temperature, and the most tokens of an answer.
    """

    temperature: float = 0.0
    max_tokens: int = 256


def tag(config: TagConfig) -> Path:
    """Writes the tagged corpus. Raises as `asking.run`."""
    prompt = config.prompt("tag")

    async def work(client: Client, source: SourceClip) -> Clip:
        clip = source.clip
        if clip.caption is None:
            return clip
        asked = prompt.substitute(caption=clip.caption)
        answer = await client.ask(
            text_question("tags", clip.id, asked, config.temperature, config.max_tokens)
        )
        tags = checked_tags(read_object(answer, "tags"))
        return dataclasses.replace(clip, metrics={**(clip.metrics or {}), **tags})

    return run(config, "tagging", clip_by_clip(work), {"model": config.endpoint.model})


def checked_tags(tags: dict) -> dict:
    """The tags alone, right in type and range. Raises RecordError `unreadable_tags`."""
    if tags.get("audio_type") not in AUDIO_TYPES:
        raise unreadable("tags", f"audio_type is {tags.get('audio_type')!r}")
    for name in BOOLEANS:
        if not isinstance(tags.get(name), bool):
            raise unreadable("tags", f"{name} is {tags.get(name)!r}, not true or false")
    for name in SCORES:
        if type(tags.get(name)) is not int or tags[name] not in _RANGE:
            raise unreadable("tags", f"{name} is {tags.get(name)!r}, not an integer from 1 to 5")
    return {name: tags[name] for name in ("audio_type", *BOOLEANS, *SCORES)}
