"""The model that a server serves: its engine, and what is told of it."""

import dataclasses
import time
from typing import Any

from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.serving.asking import Asking
from bagpiper_jax.serving.config import Limits
from bagpiper_jax.serving.sounds import RATE


@dataclasses.dataclass(frozen=True)
class Served:
    """A model with all that answers for it.

    Attributes:
        name: what clients call it.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    generator: Generator
    engine: Engine
    asking: Asking
    limits: Limits
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def card(self) -> dict[str, Any]:
        """The model as `/v1/models` has it. What OpenAI has not stands under `bagpiper`."""
        text, audio = self.asking.loop.text, self.asking.loop.audio
        sounds = self.generator.codec is not None
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "bagpiper_jax",
            "bagpiper": {
                "stage": self.generator.extras.get("stage"),
                "thinks": self.asking.thinks,
                "modalities": ["text", "audio"] if sounds else ["text"],
                "sample_rate": RATE,
                "system_prompt": self.asking.system_prompt,
                "text": dataclasses.asdict(text),
                "audio": dataclasses.asdict(audio)
                | {"max_seconds": audio.max_steps * self.generator.hop / self.generator.sample_rate},
                "limits": {
                    "audio_seconds": self.limits.audio,
                    "body_mib": self.limits.body,
                    "text": self.limits.text,
                },
            },
        }
