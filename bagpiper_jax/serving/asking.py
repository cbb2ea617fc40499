"""From the fields of a request to a dialogue for the engine."""

import dataclasses
import math
from collections.abc import Sequence

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.serving.clips import Clips
from bagpiper_jax.serving.faults import invalid
from bagpiper_jax.serving.fields import ChatMessage, ChatRequest, SpeechRequest, TextPart

STOCK_VOICES = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
"""Names of OpenAI's voices. Clients have to send one, and it says nothing of how anybody sounds."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What the engine is asked.

    Attributes:
        dialogue: the messages up to the answer.
        loop: sampling, with the modalities of the answer.
        begun: the text that the answer begins with.
    """

    dialogue: tuple[Message, ...]
    loop: LoopConfig
    begun: str = ""

    @property
    def sounds(self) -> bool:
        return "audio" in self.loop.modalities


class Asking:
    """Makes questions for one model.

    Attributes:
        loop: sampling where a client says nothing.
        system_prompt: opens requests for audio whose client sends none.
        thinks: whether the model writes before it sounds; one that was only pretrained turns captions into sound.
    """

    def __init__(self, generator: Generator, loop: LoopConfig, system_prompt: str | None, clips: Clips):
        self._clips, self._vocabulary = clips, generator.model.config.vocabulary
        self._generator = generator
        self.loop = loop
        self.system_prompt = generator.system_prompt if system_prompt is None else system_prompt
        self.thinks = generator.thinks

    async def chat(self, request: ChatRequest) -> Question:
        """The question of a chat. Raises APIError."""
        modalities = self._modalities("text" in request.modalities, "audio" in request.modalities)
        messages, begun = _split(request.messages)
        if begun and modalities[0] != "text":
            raise invalid("an answer that begins with text needs 'text' among its modalities", "modalities")
        self._check_length(sum(len(message.text) for message in request.messages), "messages")
        dialogue = await self._dialogue(messages)
        return self._question(dialogue, modalities, self._chat_loop(request), begun)

    def speech(self, request: SpeechRequest) -> Question:
        """The question of a line that is to be spoken. Raises APIError."""
        if request.speed != 1:
            raise invalid("the model speaks at its own speed; describe it in 'instructions'", "speed")
        voice = request.voice if isinstance(request.voice, str) else ""
        scene = request.instructions or (
            f"A {voice} voice." if voice.lower() not in {"", *STOCK_VOICES} else ""
        )
        line = f'{scene} Somebody says "{request.input}".'.strip()
        dialogue = [Message("user", "text", line)]
        loop = self.loop if request.seed is None else dataclasses.replace(self.loop, seed=_seed(request.seed))
        return self._question(dialogue, self._modalities(True, True), loop)

    def _question(
        self, dialogue: list[Message], modalities: tuple[str, ...], loop: LoopConfig, begun: str = ""
    ) -> Question:
        has_system = any(message.role == "system" for message in dialogue)
        if "audio" in modalities and self.system_prompt and not has_system:
            dialogue = [Message("system", "text", self.system_prompt), *dialogue]
        loop = dataclasses.replace(loop, modalities=modalities, max_segments=len(modalities))
        return Question(tuple(dialogue), loop, begun)

    def _modalities(self, writes: bool, sounds: bool) -> tuple[str, ...]:
        if sounds and self._generator.codec is None:
            raise invalid("this model has no codec and only writes", "modalities", "unsupported_value")
        if not sounds:
            return ("text",)
        return ("text", "audio") if writes and self.thinks else ("audio",)

    def _check_length(self, characters: int, param: str) -> None:
        if characters > self._clips.limits.text:
            raise invalid(
                f"the text has {characters} characters, at most {self._clips.limits.text} are read",
                param,
                "string_above_max_length",
            )

    async def _dialogue(self, messages: Sequence[ChatMessage]) -> list[Message]:
        found: list[Message] = []
        for index, message in enumerate(messages):
            role = "user" if message.role == "user" else "system"
            for number, part in enumerate(message.content):
                if isinstance(part, TextPart):
                    continue
                place = f"messages.{index}.content.{number}"
                if role != "user":
                    raise invalid("only the user can send audio", place)
                if any(each.modality == "audio" for each in found):
                    raise invalid("the model hears one clip in a dialogue", place, "too_many_clips")
                # Clips stand before the question, however the client orders them: so the model was tuned.
                found.append(Message(role, "audio", await self._clips.read(part, place)))
            if message.text.strip():
                found.append(Message(role, "text", message.text))
        if not any(message.role == "user" for message in found):
            raise invalid("the messages hold nothing of a user that could be answered", "messages")
        return found

    def _chat_loop(self, request: ChatRequest) -> LoopConfig:
        text, audio = self.loop.text, self.loop.audio
        asked = request.max_completion_tokens or request.max_tokens or text.max_steps
        most = min(asked, text.max_steps)
        text = dataclasses.replace(text, max_steps=most, min_steps=min(text.min_steps, most))
        if request.temperature is not None:
            text = dataclasses.replace(text, temperature=request.temperature)
        if request.top_k is not None:
            text = dataclasses.replace(text, top_k=request.top_k)
        if (wanted := request.audio) is not None:
            if wanted.temperature is not None:
                audio = dataclasses.replace(audio, temperature=wanted.temperature)
            if wanted.guidance is not None:
                audio = dataclasses.replace(audio, guidance=wanted.guidance)
            if wanted.max_seconds is not None:
                most = min(self._rows(wanted.max_seconds), audio.max_steps)
                audio = dataclasses.replace(audio, max_steps=most, min_steps=min(audio.min_steps, most))
        seed = self.loop.seed if request.seed is None else _seed(request.seed)
        return dataclasses.replace(self.loop, text=text, audio=audio, seed=seed)

    def _rows(self, seconds: float) -> int:
        """Rows of so much sound: its frames, and those by which the streams are delayed."""
        frames = min(seconds, 1e6) * self._generator.sample_rate / self._generator.hop
        return max(1, math.ceil(frames)) + self._vocabulary.num_streams - 1


def _split(messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], str]:
    """The messages that are asked, and the text that the answer begins with. Raises APIError."""
    *before, last = messages
    begun = last.text if last.role == "assistant" else ""
    for index, message in enumerate(before):
        if message.role == "assistant":
            raise invalid(
                "the model answers one turn and has seen no other: send the messages of system and user alone, and "
                "of the assistant at most a last one that its answer begins with",
                f"messages.{index}.role",
                "unsupported_value",
            )
    if last.role == "assistant" and any(not isinstance(part, TextPart) for part in last.content):
        raise invalid("an answer can only begin with text", f"messages.{len(before)}.content")
    return (before if last.role == "assistant" else messages), begun


def _seed(seed: int) -> int:
    """A seed as the engine takes it: 31 bits."""
    return seed & 0x7FFF_FFFF
