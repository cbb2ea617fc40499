"""What is asked of a model, a clip or words, and in which modalities it answers."""

import dataclasses
from collections.abc import AsyncIterator

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.replies import Generator, Reply
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.streaming import AudioDelta, Event, SegmentEnd, TextDelta

NO_SOUND = "the model ended before a whole audio frame; try another seed or a longer min_steps"


@dataclasses.dataclass(frozen=True)
class Asking:
    """Makes dialogues for one model.

    Attributes:
        generator: the model.
        loop: sampling; its modalities are set by what is asked, unless given.
        system_prompt: opens requests for audio if not empty; None takes the one that the run was tuned with.
    """

    generator: Generator
    loop: LoopConfig
    system_prompt: str | None = None

    def loop_for(self, hears: bool) -> LoopConfig:
        """Sampling with the modalities of the answer.

        Args:
            hears: whether a clip is asked about; else words ask for audio.
        """
        if self.loop.modalities:
            return self.loop
        thinks = self.generator.extras.get("stage") == "sft"
        modalities = ("text",) if hears else ("text", "audio") if thinks else ("audio",)
        return dataclasses.replace(self.loop, modalities=modalities, max_segments=len(modalities))

    def about(self, clip: Float32[np.ndarray, "samples"], question: str = "") -> list[Message]:
        """Asks about a clip at 16 kHz, or without a question for its caption."""
        messages = [Message("user", "audio", clip)]
        return [*messages, Message("user", "text", question)] if question else messages

    def for_audio(self, words: str) -> list[Message]:
        """Asks for the audio of a caption or a request."""
        given = self.system_prompt
        opening = self.generator.system_prompt if given is None else given
        system = [Message("system", "text", opening)] if opening else []
        return [*system, Message("user", "text", words)]


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
