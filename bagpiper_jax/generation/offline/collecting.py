"""The events of a stream as one reply."""

from collections.abc import AsyncIterator

import numpy as np

from bagpiper_jax.generation.replies import Reply
from bagpiper_jax.generation.streaming import AudioDelta, Event, SegmentEnd, TextDelta

NO_SOUND = "the model ended before a whole audio frame; try another seed or a longer min_steps"


async def collected(events: AsyncIterator[Event]) -> Reply:
    """The reply that a stream's events add up to, as `Generator.reply` gives it; its audio is at the codec's rate.

    Raises what ends the stream before its time.
    """
    texts: dict[int, str] = {}
    sounds: dict[int, list[np.ndarray]] = {}
    complete = True
    async for event in events:
        match event:
            case TextDelta():
                texts[event.segment] = texts.get(event.segment, "") + event.text
            case AudioDelta():
                sounds.setdefault(event.segment, []).append(event.samples)
            case SegmentEnd():
                complete = complete and event.complete
                if event.modality == "text":
                    texts.setdefault(event.segment, "")
                else:
                    sounds.setdefault(event.segment, [])
    last = sounds[max(sounds)] if sounds else None
    samples = None if last is None else np.concatenate([np.zeros(0, np.float32), *last])
    return Reply("\n\n".join(texts.values()), samples, complete)
