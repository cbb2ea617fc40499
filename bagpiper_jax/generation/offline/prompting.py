"""How a clip or words are put to a model, and in which modalities it answers."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.segments import LoopConfig


@dataclasses.dataclass(frozen=True)
class Prompting:
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
        modalities = ("text",) if hears else ("text", "audio") if self.generator.thinks else ("audio",)
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
